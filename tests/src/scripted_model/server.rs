//! The running server of a scripted model, with the requests that it has received.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::login::{self, Login};
use super::respond::{models, respond};
use super::script::Scripts;

/// Maximum length of a request, in bytes: far more than the 40 KiB and more of a test's thread.
const MAX_REQUEST: usize = 64 << 20;

/// Number of the newest requests that are kept, with their bodies.
const MAX_KEPT: usize = 256;

/// A running server of a scripted model; dropping this value ends it.
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<io::Result<()>>,
}

/// A received request.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedRequest {
    /// Name of the selected script.
    pub script: String,
    /// Index of the turn that answered the request; `None` for a poll and after the last turn.
    pub turn: Option<usize>,
    /// Thread of the request.
    pub thread: Option<String>,
    /// `Authorization` header of the request.
    pub authorization: Option<String>,
    /// `ChatGPT-Account-Id` header of the request.
    pub account: Option<String>,
    /// Body of the request.
    pub body: Value,
}

/// State shared by the handlers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scripts: Scripts,
    log: Mutex<Log>,
    login: Mutex<Login>,
    count: watch::Sender<usize>,
}

/// The newest requests, and the number of all requests.
#[derive(Debug, Default)]
pub(super) struct Log {
    requests: VecDeque<ReceivedRequest>,
    total: usize,
}

impl ScriptedModel {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start(scripts: Scripts) -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), scripts).await
    }

    /// Starts a server on `address`; port 0 means any free port.
    pub async fn listen(address: SocketAddr, scripts: Scripts) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            scripts,
            log: Mutex::default(),
            login: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let app = Router::new()
            .route("/v1/responses", post(respond))
            .route("/v1/models", get(models))
            .route("/oauth/token", post(login::refresh))
            .layer(DefaultBodyLimit::max(MAX_REQUEST))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, shared, task })
    }

    /// Starts a server on a free port of 127.0.0.1, on a thread of its own, for a test without a runtime. The server runs
    /// until this value is dropped.
    ///
    /// # Errors
    /// The server could not be started.
    pub fn start_on_thread(scripts: Scripts) -> io::Result<Self> {
        let (made, model) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                // The test waits for the server.
                let _ = made.send(Self::start(scripts).await);
                pending::<io::Result<()>>().await
            })
        });
        model.recv().map_err(io::Error::other)?
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL for Codex's configuration: `http://ADDRESS/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Admits only requests with the newest access token of a `ChatGPT` login from now on. Returns the content of its
    /// `auth.json`, whose access token has expired.
    pub fn begin_login(&self) -> String {
        self.shared.login().begin()
    }

    /// Refuses to refresh the login from now on.
    pub fn revoke_login(&self) {
        self.shared.login().revoke();
    }

    /// Returns the refresh tokens of all requests for new tokens, oldest first.
    pub fn presented_refresh_tokens(&self) -> Vec<String> {
        self.shared.login().presented()
    }

    /// Returns the URL of the token endpoint.
    pub fn refresh_url(&self) -> String {
        format!("http://{}/oauth/token", self.address)
    }

    /// Returns the newest requests, oldest first.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.log().requests.iter().cloned().collect()
    }

    /// Waits until `count` requests have been received.
    pub async fn wait_for_requests(&self, count: usize) {
        let mut total = self.shared.count.subscribe();
        // The sender is in `shared`, which this handle keeps alive, so waiting can't fail.
        let _ = total.wait_for(|total| *total >= count).await;
    }

    /// Serves until the server fails.
    pub async fn serve(mut self) -> io::Result<()> {
        (&mut self.task).await.map_err(io::Error::other)?
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// Adds a request to the log; returns the request's number, from 1.
    pub(super) fn record(&self, request: ReceivedRequest) -> usize {
        let total = self.log().push(request);
        self.count.send_replace(total);
        total
    }

    /// Locks the login, which each change leaves intact.
    pub(super) fn login(&self) -> MutexGuard<'_, Login> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the log. A panic of another task leaves the log intact, because each change is a single push.
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn push(&mut self, request: ReceivedRequest) -> usize {
        if self.requests.len() == MAX_KEPT {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
        self.total += 1;
        self.total
    }

    /// Returns the number of requests of a thread that this turn has answered.
    pub(super) fn answered_requests(&self, script: &str, thread: Option<&str>, turn: usize) -> usize {
        let matches = |request: &&ReceivedRequest| {
            request.script == script && request.thread.as_deref() == thread && request.turn == Some(turn)
        };
        self.requests.iter().filter(matches).count()
    }
}
