//! The running server: its port, its task, and what it has seen.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::respond::{models, respond};
use super::script::Scripts;

/// A request is some 40 KiB and grows with its thread; this is far above what a test's thread reaches.
const MAX_REQUEST: usize = 64 << 20;

/// How many requests are remembered with their bodies.
const MAX_SEEN: usize = 256;

/// A running server; it ends with its handle.
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<io::Result<()>>,
}

/// A request that came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The script that it chose.
    pub script: String,
    /// The turn that it was answered with; `None` for a poll and after the end.
    pub turn: Option<usize>,
    /// The thread that it belongs to.
    pub thread: Option<String>,
    /// Its `Authorization` header.
    pub authorization: Option<String>,
    /// The whole request.
    pub body: Value,
}

/// What the handlers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scripts: Scripts,
    log: Mutex<Log>,
    count: watch::Sender<usize>,
}

/// The newest requests, and how many there were in all.
#[derive(Debug, Default)]
pub(super) struct Log {
    seen: VecDeque<Seen>,
    total: usize,
}

impl ScriptedModel {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(scripts: Scripts) -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), scripts).await
    }

    /// Starts a server on that address; port 0 is any free one.
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn listen(address: SocketAddr, scripts: Scripts) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { scripts, log: Mutex::default(), count: watch::Sender::new(0) });
        let app = Router::new()
            .route("/v1/responses", post(respond))
            .route("/v1/models", get(models))
            .layer(DefaultBodyLimit::max(MAX_REQUEST))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes into Codex's configuration: `http://ADDRESS/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The newest requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.log().seen.iter().cloned().collect()
    }

    /// Waits until `count` requests have come in.
    pub async fn requests(&self, count: usize) {
        let mut total = self.shared.count.subscribe();
        // The sender lives in `shared`, which this handle holds: waiting can't fail.
        let _ = total.wait_for(|total| *total >= count).await;
    }

    /// Serves until the server fails.
    ///
    /// # Errors
    /// The listener failed.
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
    /// Puts a request into the log; gives its number, from 1.
    pub(super) fn record(&self, seen: Seen) -> usize {
        let total = self.log().push(seen);
        self.count.send_replace(total);
        total
    }

    /// A panic elsewhere leaves the log whole: each change to it is one push.
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn push(&mut self, seen: Seen) -> usize {
        if self.seen.len() == MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
        self.total += 1;
        self.total
    }

    /// How many requests of a thread this turn was the answer to.
    pub(super) fn met(&self, script: &str, thread: Option<&str>, turn: usize) -> usize {
        let same = |seen: &&Seen| {
            seen.script == script && seen.thread.as_deref() == thread && seen.turn == Some(turn)
        };
        self.seen.iter().filter(same).count()
    }
}
