//! Admits subscribers to the event stream, and starts the response to each.

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
use super::subscriber_timeouts::SubscriberTimeouts;
use super::{sse, token, websocket};
use crate::daemon::http_admission::require_token;
use crate::daemon::token::TokenVerifier;
use crate::exit::ExitCode;
use crate::registry::{Registry, read};

/// Path of the endpoint at which subscribers request the event stream.
pub(in crate::daemon) const ENDPOINT_PATH: &str = "/api/v1/events";
/// Response header with the id after which the stream begins, so that a client has a cursor before the first event.
const CURSOR_HEADER: HeaderName = HeaderName::from_static("relay-cursor");
/// Maximum number of concurrent subscribers. A slow subscriber costs some hundred KiB of memory.
const MAX_SUBSCRIBERS: usize = 64;
/// Maximum number of subscribers that read files concurrently, so that the daemon's own disk access is not delayed.
const MAX_READERS: usize = 2;

/// Time limit for closing all subscribers. A subscriber that reads is closed within milliseconds.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Shared state of all subscribers.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Subscribers {
    verifier: TokenVerifier,
    broadcast: Broadcast,
    registry: Registry,
    subscriber_permits: Arc<Semaphore>,
    reader_permits: Arc<Semaphore>,
    timeouts: SubscriberTimeouts,
    shutdown: CancellationToken,
}

impl Subscribers {
    /// Creates the endpoint for subscribers to the events that `broadcast` publishes.
    ///
    /// # Errors
    /// Fails if there is no token and none can be created.
    pub(in crate::daemon) fn new(registry: &Registry, broadcast: Broadcast) -> io::Result<Self> {
        Ok(Self {
            verifier: token::load_verifier(registry)?,
            broadcast,
            registry: registry.clone(),
            subscriber_permits: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)),
            reader_permits: Arc::new(Semaphore::new(MAX_READERS)),
            timeouts: SubscriberTimeouts::DEFAULT,
            shutdown: CancellationToken::new(),
        })
    }

    /// Closes all streams, and waits at most [`CLOSE_TIMEOUT`] until the subscribers are gone.
    pub(in crate::daemon) async fn close(&self) {
        self.shutdown.cancel();
        let all_permits = u32::try_from(MAX_SUBSCRIBERS).unwrap_or(u32::MAX);
        let _ = timeout(CLOSE_TIMEOUT, self.subscriber_permits.acquire_many(all_permits)).await;
    }

    /// Admits or refuses the request of a subscriber.
    async fn admit(&self, parts: &Parts) -> Result<(Format, CursorStream, OwnedSemaphorePermit), Refusal> {
        require_token(&parts.headers, &self.verifier)
            .map_err(|(status, text)| (status, text.trim_end().to_owned()))?;
        let query = EventQuery::parse(&parts.uri, &parts.headers)?;
        let job = match query.job {
            Some(text) => Some(self.resolve_job(text).await?),
            None => None,
        };
        let permit = Arc::clone(&self.subscriber_permits).try_acquire_owned().map_err(|_| {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{MAX_SUBSCRIBERS} subscribers are connected, the maximum: close one"),
            )
        })?;
        let stream = CursorStream::new(
            &self.broadcast,
            &self.registry,
            Arc::clone(&self.reader_permits),
            job,
            query.since,
        );
        if stream.cursor() > stream.newest_id() {
            let text = format!(
                "since={} is ahead of the newest event ({}): it belongs to another registry; start with \
                since=0",
                stream.cursor(),
                stream.newest_id()
            );
            return Err((StatusCode::BAD_REQUEST, text));
        }
        Ok((query.format, stream, permit))
    }

    async fn resolve_job(&self, text: String) -> Result<JobId, Refusal> {
        let registry = self.registry.clone();
        let resolved = tokio::task::spawn_blocking(move || read::resolve_job(&registry, &text)).await;
        resolved.map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?.map_err(|failure| {
            let status = match failure.code {
                ExitCode::NoSuchJob => StatusCode::NOT_FOUND,
                ExitCode::Usage => StatusCode::BAD_REQUEST,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, failure.message)
        })
    }
}

/// Handles the request of a subscriber.
pub(in crate::daemon) async fn serve_events(
    State(subscribers): State<Subscribers>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let (format, stream, permit) = match subscribers.admit(&parts).await {
        Ok(opened) => opened,
        Err((status, text)) => return (status, format!("{text}\n")).into_response(),
    };
    let cursor = [(CURSOR_HEADER, stream.cursor().to_string())];
    let (timeouts, shutdown) = (subscribers.timeouts, subscribers.shutdown.clone());
    match format {
        Format::Sse => (cursor, sse::sse_response(stream, timeouts, permit, shutdown)).into_response(),
        Format::WebSocket => match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => (cursor, websocket::upgrade_response(upgrade, stream, timeouts, permit, shutdown))
                .into_response(),
            Err(rejection) => rejection.into_response(),
        },
    }
}
