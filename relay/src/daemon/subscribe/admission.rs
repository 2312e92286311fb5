//! Admission of subscribers: decided before anything is sent.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use common::ids::JobId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::broadcast::Broadcast;
use super::cursor_stream::CursorStream;
use super::query::{EventQuery, Format, Refusal};
use super::{sse, token, websocket};
use crate::daemon::token::TokenVerifier;
use crate::daemon::upgrade::{AppState, admit};
use crate::exit::Code;
use crate::registry::{Registry, read};

/// Path of the endpoint.
pub(in crate::daemon) const PATH: &str = "/api/v1/events";
/// Header with the id at which the stream begins, so that a program has a cursor before its first event.
const CURSOR: HeaderName = HeaderName::from_static("relay-cursor");
/// Maximum number of subscribers at once: a slow one costs some hundred KiB, and no user has so many programs.
const MAX_SUBSCRIBERS: usize = 64;
/// Maximum number of subscribers that read files at once. The daemon has other work for the disk.
const MAX_READERS: usize = 2;

/// Time limit for closing all subscribers. A subscriber that reads is closed within milliseconds.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Time limits of a subscriber.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Limit for taking one chunk, of 64 KiB as a rule. A subscriber that needs longer is stopped or hangs.
    pub(super) stall: Duration,
    /// Limit for taking the reason why it is cut off.
    pub(super) farewell: Duration,
    /// Interval between two keep-alive signals while there is no event.
    pub(super) quiet: Duration,
}

impl Timeouts {
    /// Default limits. Proxies close an idle connection after 30 s at the earliest.
    const DEFAULT: Self = Self {
        stall: Duration::from_secs(10),
        farewell: Duration::from_secs(5),
        quiet: Duration::from_secs(15),
    };
}

/// Shared state of all subscribers.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Subscribers {
    verifier: TokenVerifier,
    broadcast: Broadcast,
    registry: Registry,
    permits: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    timeouts: Timeouts,
    shutdown: CancellationToken,
}

impl Subscribers {
    /// Makes the endpoint for subscribers to the events that `broadcast` publishes.
    ///
    /// # Errors
    /// Fails if there is no token and none can be made.
    pub(in crate::daemon) fn new(registry: &Registry, broadcast: Broadcast) -> io::Result<Self> {
        Ok(Self {
            verifier: token::load_verifier(registry)?,
            broadcast,
            registry: registry.clone(),
            permits: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            timeouts: Timeouts::DEFAULT,
            shutdown: CancellationToken::new(),
        })
    }

    /// Notifies all subscribers that the relay ends, and gives them a moment to receive it.
    pub(in crate::daemon) async fn close(&self) {
        self.shutdown.cancel();
        let all = u32::try_from(MAX_SUBSCRIBERS).unwrap_or(u32::MAX);
        let _ = timeout(CLOSE_TIMEOUT, self.permits.acquire_many(all)).await;
    }

    /// Admits or refuses a request.
    async fn open(&self, parts: &Parts) -> Result<(Format, CursorStream, OwnedSemaphorePermit), Refusal> {
        admit(&parts.headers, &self.verifier)
            .map_err(|(status, text)| (status, text.trim_end().to_owned()))?;
        let query = EventQuery::parse(&parts.uri, &parts.headers)?;
        let job = match query.job {
            Some(text) => Some(self.resolve(text).await?),
            None => None,
        };
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{MAX_SUBSCRIBERS} subscribers are connected, the maximum: close one"),
            )
        })?;
        let stream =
            CursorStream::new(&self.broadcast, &self.registry, Arc::clone(&self.readers), job, query.since);
        if stream.cursor() > stream.newest() {
            let text = format!(
                "since={} is ahead of the newest event ({}): it belongs to another registry; start with \
                since=0",
                stream.cursor(),
                stream.newest()
            );
            return Err((StatusCode::BAD_REQUEST, text));
        }
        Ok((query.format, stream, permit))
    }

    async fn resolve(&self, text: String) -> Result<JobId, Refusal> {
        let registry = self.registry.clone();
        let resolved = tokio::task::spawn_blocking(move || read::resolve(&registry, &text)).await;
        resolved.map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?.map_err(|failure| {
            let status = match failure.code {
                Code::NoSuchJob => StatusCode::NOT_FOUND,
                Code::Usage => StatusCode::BAD_REQUEST,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, failure.message)
        })
    }
}

/// Handles one request.
pub(in crate::daemon) async fn serve_events(State(app): State<AppState>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let subscribers = app.subscribers;
    let (format, stream, permit) = match subscribers.open(&parts).await {
        Ok(opened) => opened,
        Err((status, text)) => return (status, format!("{text}\n")).into_response(),
    };
    let cursor = [(CURSOR, stream.cursor().to_string())];
    let (timeouts, shutdown) = (subscribers.timeouts, subscribers.shutdown.clone());
    match format {
        Format::Sse => (cursor, sse::answer(stream, timeouts, permit, shutdown)).into_response(),
        Format::WebSocket => match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => {
                (cursor, websocket::answer(upgrade, stream, timeouts, permit, shutdown)).into_response()
            }
            Err(rejection) => rejection.into_response(),
        },
    }
}
