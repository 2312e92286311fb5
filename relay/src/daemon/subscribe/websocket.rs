//! One subscriber on a WebSocket: one text message per event, the log's line without its line break.

use std::io;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::admission::Timeouts;
use super::cursor_stream::CursorStream;
use crate::registry::chunk::Chunk;

/// Close code: the subscriber took nothing for too long. The reason is `{"cursor":ID}`, the id of the last event before
/// it.
const CLOSE_SLOW: u16 = 4008;
/// Maximum length of a subscriber's message, in bytes: only pings, pongs and a close frame are expected.
const MAX_INCOMING: usize = 1024;
/// Size of the read buffer, in bytes.
const READ_BUFFER: usize = 4 * 1024;
/// Number of missed keep-alive signals after which a subscriber counts as gone.
const MAX_MISSED_PINGS: u32 = 3;

/// Reason why a subscription ended.
enum End {
    /// Ended by the other side, or by the network.
    Gone,
    /// Closed by the other side, with a close frame.
    Closed,
    /// The subscriber took nothing for too long. Everything up to this id is under way.
    Slow(u64),
    /// Ended by this side: close code and reason.
    Refused(u16, String),
}

/// Event on a subscription.
enum Step {
    Received(Option<Result<Message, axum::Error>>),
    Events(io::Result<Chunk>),
    Ping,
    IdleTimeout,
    Shutdown,
}

/// Accepts the upgrade and serves the subscriber until its connection ends.
pub(super) fn answer(
    upgrade: WebSocketUpgrade,
    stream: CursorStream,
    timeouts: Timeouts,
    permit: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) -> Response {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_INCOMING)
        .max_frame_size(MAX_INCOMING)
        .on_upgrade(async move |socket| {
            let _place = permit;
            run(socket, stream, timeouts, shutdown).await;
        })
}

async fn run(
    mut socket: WebSocket,
    mut stream: CursorStream,
    timeouts: Timeouts,
    shutdown: CancellationToken,
) {
    let (code, reason) = match serve(&mut socket, &mut stream, timeouts, shutdown).await {
        End::Gone => return,
        End::Closed => {
            // The answer to a close frame waits in the socket until something is sent.
            let _ = timeout(timeouts.farewell, socket.flush()).await;
            return;
        }
        End::Refused(code, reason) => (code, reason),
        End::Slow(cursor) => {
            let seconds = timeouts.stall.as_secs();
            tracing::warn!("a subscriber read nothing for {seconds} s: disconnected after event {cursor}");
            (CLOSE_SLOW, format!("{{\"cursor\":{cursor}}}"))
        }
    };
    let reason = common::text::truncate(&reason, 120);
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // Best effort: the close frame follows everything that was sent, which the other side may never read.
    let _ = timeout(timeouts.farewell, socket.send(close)).await;
}

async fn serve(
    socket: &mut WebSocket,
    stream: &mut CursorStream,
    timeouts: Timeouts,
    shutdown: CancellationToken,
) -> End {
    let mut pings = interval_at(Instant::now() + timeouts.quiet, timeouts.quiet);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        // Every branch is cancel-safe: a WebSocket's `next`, a tail's `next`, a tick, a sleep and a flag lose nothing
        // when another branch wins. Received messages go first: they wait while something is being sent.
        let step = tokio::select! {
            biased;
            message = socket.next() => Step::Received(message),
            () = sleep_until(heard + timeouts.quiet * MAX_MISSED_PINGS) => Step::IdleTimeout,
            _ = pings.tick() => Step::Ping,
            chunk = stream.next() => Step::Events(chunk),
            // After the events: published events are sent first.
            () = shutdown.cancelled() => Step::Shutdown,
        };
        let sent = match step {
            Step::Received(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {
                heard = Instant::now();
                Ok(())
            }
            Step::Received(Some(Ok(Message::Text(_) | Message::Binary(_)))) => {
                Err(End::Refused(close_code::POLICY, "a subscriber must not send messages".to_owned()))
            }
            Step::Received(Some(Ok(Message::Close(_)))) => Err(End::Closed),
            Step::Received(Some(Err(_)) | None) | Step::IdleTimeout => Err(End::Gone),
            Step::Shutdown => Err(End::Refused(close_code::AWAY, "the relay is shutting down".to_owned())),
            Step::Ping => send(socket, timeouts, stream.cursor(), ping()).await,
            Step::Events(Ok(chunk)) => send(socket, timeouts, chunk.cursor, messages(&chunk)).await,
            Step::Events(Err(e)) => Err(End::Refused(close_code::ERROR, format!("a log can't be read: {e}"))),
        };
        if let Err(end) = sent {
            return end;
        }
    }
}

fn ping() -> impl Iterator<Item = (Option<u64>, Message)> {
    std::iter::once((None, Message::Ping(Vec::new().into())))
}

fn messages(chunk: &Chunk) -> impl Iterator<Item = (Option<u64>, Message)> {
    chunk.lines().map(|(id, line)| {
        // Serde writes UTF-8, and the checksum proves that the line is unchanged.
        let text = Utf8Bytes::from(String::from_utf8_lossy(line).into_owned());
        (Some(id), Message::Text(text))
    })
}

/// Sends messages with one flush. `cursor` is the subscriber's cursor once all are sent.
async fn send(
    socket: &mut WebSocket,
    timeouts: Timeouts,
    cursor: u64,
    messages: impl Iterator<Item = (Option<u64>, Message)>,
) -> Result<(), End> {
    let mut fed = None;
    let all = async {
        for (id, message) in messages {
            socket.feed(message).await?;
            fed = id.or(fed);
        }
        socket.flush().await
    };
    match timeout(timeouts.stall, all).await {
        Ok(sent) => sent.map_err(|_| End::Gone),
        Err(_) => Err(End::Slow(fed.unwrap_or(cursor))),
    }
}
