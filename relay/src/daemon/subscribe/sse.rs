//! Sends events to one subscriber as server-sent events, over plain HTTP.

use std::io::Write as _;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use common::event_line::LineHead;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::cursor_stream::CursorStream;
use super::subscriber_timeouts::SubscriberTimeouts;
use crate::registry::chunk::Chunk;

/// Delay after which an `EventSource` reconnects, in milliseconds: a relay starts within a second.
const RETRY_MS: u64 = 1000;

/// Responds with events until the subscriber disconnects or is disconnected.
pub(super) fn sse_response(
    stream: CursorStream,
    timeouts: SubscriberTimeouts,
    permit: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) -> Response {
    // Capacity of one: one chunk waits while another is being written.
    let (sender, mut chunks) = mpsc::channel(1);
    tokio::spawn(send_chunks(stream, timeouts, sender, shutdown));
    let body = stream::poll_fn(move |context| {
        // The permit is held until the connection has written all chunks.
        let _held_permit = &permit;
        chunks.poll_recv(context).map(|chunk| chunk.map(Ok::<Bytes, std::convert::Infallible>))
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(body)).into_response()
}

/// Sends chunks to the connection. A subscriber whose connection accepts none reads nothing and is disconnected.
async fn send_chunks(
    mut stream: CursorStream,
    timeouts: SubscriberTimeouts,
    connection: mpsc::Sender<Bytes>,
    shutdown: CancellationToken,
) {
    // The id is sent first, so that a client has a cursor even if its first connection receives no event.
    let mut text = format!("retry: {RETRY_MS}\nid: {}\n\n", stream.cursor()).into_bytes();
    let mut sent_cursor = stream.cursor();
    loop {
        match timeout(timeouts.chunk_timeout, connection.send(text.into())).await {
            Ok(Ok(())) => {}
            // The subscriber has disconnected.
            Ok(Err(_)) => return,
            Err(_) => {
                let seconds = timeouts.chunk_timeout.as_secs();
                tracing::warn!(
                    "a subscriber read nothing for {seconds} s: disconnected after event {sent_cursor}"
                );
                let comment = format!(
                    ": disconnected: nothing was read for {seconds} s; resume with Last-Event-ID: {sent_cursor}\n\n"
                );
                let _ = timeout(timeouts.close_reason_timeout, connection.send(comment.into())).await;
                return;
            }
        }
        sent_cursor = stream.cursor();
        let keep_alive_at = Instant::now() + timeouts.keep_alive_interval;
        // All branches are cancel-safe: the stream's cursor advances only when it returns a chunk.
        text = tokio::select! {
            biased;
            () = connection.closed() => return,
            chunk = timeout_at(keep_alive_at, stream.next()) => match chunk {
                Ok(Ok(chunk)) => format_events(&chunk),
                Ok(Err(e)) => {
                    let comment = format!(": the log can't be read: {}\n\n", common::text_format::one_line(&e.to_string(), 200));
                    let _ = timeout(timeouts.close_reason_timeout, connection.send(comment.into())).await;
                    return;
                }
                // A comment, which keeps proxies from closing the connection.
                Err(_) => b":\n\n".to_vec(),
            },
            // Checked last, so that published events are sent before the subscription ends.
            () = shutdown.cancelled() => return,
        };
    }
}

fn format_events(chunk: &Chunk) -> Vec<u8> {
    let mut text = Vec::new();
    for (id, line) in chunk.lines() {
        // The line was checked when it was read.
        let kind = LineHead::parse(line).map_or("message", |head| head.kind);
        // Writing into memory does not fail.
        let _ = write!(text, "id: {id}\nevent: {kind}\ndata: ");
        text.extend_from_slice(line);
        text.extend_from_slice(b"\n\n");
    }
    text
}
