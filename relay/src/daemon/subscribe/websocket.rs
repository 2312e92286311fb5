//! Sends events to one subscriber on a WebSocket. Each event is a text message: the log's line without the line break.

use std::io;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::cursor_stream::CursorStream;
use super::subscriber_timeouts::SubscriberTimeouts;
use crate::registry::chunk::Chunk;

/// Close code: the subscriber read nothing for too long. The reason is `{"cursor":ID}`, the id of the last event that
/// was sent.
const CLOSE_SLOW: u16 = 4008;
/// Maximum length of a subscriber's message, in bytes: only pings, pongs and a close frame are expected.
const MAX_INCOMING: usize = 1024;
/// Size of the read buffer of a connection, in bytes.
const READ_BUFFER: usize = 4 * 1024;
/// Number of missed keep-alive signals after which a subscriber counts as gone.
const MAX_MISSED_PINGS: u32 = 3;

/// Reason why a subscription ended.
enum SubscriptionEnd {
    /// Ended by the other side, or by the network.
    ConnectionLost,
    /// Closed by the other side, with a close frame.
    ClosedBySubscriber,
    /// The subscriber read nothing for too long. Everything up to this id was sent.
    TooSlow(u64),
    /// Ended by this side: close code and reason.
    ClosedByRelay(u16, String),
}

enum SubscriptionEvent {
    Received(Option<Result<Message, axum::Error>>),
    Events(io::Result<Chunk>),
    Ping,
    IdleTimeout,
    Shutdown,
}

/// Accepts the upgrade and serves the subscriber until its connection ends.
pub(super) fn upgrade_response(
    upgrade: WebSocketUpgrade,
    stream: CursorStream,
    timeouts: SubscriberTimeouts,
    permit: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) -> Response {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_INCOMING)
        .max_frame_size(MAX_INCOMING)
        .on_upgrade(async move |socket| {
            let _held_permit = permit;
            serve_and_close(socket, stream, timeouts, shutdown).await;
        })
}

async fn serve_and_close(
    mut socket: WebSocket,
    mut stream: CursorStream,
    timeouts: SubscriberTimeouts,
    shutdown: CancellationToken,
) {
    let (code, reason) = match serve_until_end(&mut socket, &mut stream, timeouts, shutdown).await {
        SubscriptionEnd::ConnectionLost => return,
        SubscriptionEnd::ClosedBySubscriber => {
            // The answer to a close frame is sent with the next flush.
            let _ = timeout(timeouts.close_reason_timeout, socket.flush()).await;
            return;
        }
        SubscriptionEnd::ClosedByRelay(code, reason) => (code, reason),
        SubscriptionEnd::TooSlow(cursor) => {
            let seconds = timeouts.chunk_timeout.as_secs();
            tracing::warn!("a subscriber read nothing for {seconds} s: disconnected after event {cursor}");
            (CLOSE_SLOW, format!("{{\"cursor\":{cursor}}}"))
        }
    };
    let reason = common::text_format::truncate(&reason, 120);
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // Best effort: the other side may never read the close frame.
    let _ = timeout(timeouts.close_reason_timeout, socket.send(close)).await;
}

async fn serve_until_end(
    socket: &mut WebSocket,
    stream: &mut CursorStream,
    timeouts: SubscriberTimeouts,
    shutdown: CancellationToken,
) -> SubscriptionEnd {
    let mut pings = interval_at(Instant::now() + timeouts.keep_alive_interval, timeouts.keep_alive_interval);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_received = Instant::now();
    loop {
        let idle_deadline = last_received + timeouts.keep_alive_interval * MAX_MISSED_PINGS;
        // Every branch is cancel-safe: the `next` of the WebSocket and of the stream, a tick, a sleep and a flag lose
        // nothing when another branch wins. Received messages have priority, because they are not read while a message
        // is being sent.
        let event = tokio::select! {
            biased;
            message = socket.next() => SubscriptionEvent::Received(message),
            () = sleep_until(idle_deadline) => SubscriptionEvent::IdleTimeout,
            _ = pings.tick() => SubscriptionEvent::Ping,
            chunk = stream.next() => SubscriptionEvent::Events(chunk),
            // Checked last, so that published events are sent before the subscription ends.
            () = shutdown.cancelled() => SubscriptionEvent::Shutdown,
        };
        let result = match event {
            SubscriptionEvent::Received(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {
                last_received = Instant::now();
                Ok(())
            }
            SubscriptionEvent::Received(Some(Ok(Message::Text(_) | Message::Binary(_)))) => {
                Err(SubscriptionEnd::ClosedByRelay(
                    close_code::POLICY,
                    "a subscriber must not send messages".to_owned(),
                ))
            }
            SubscriptionEvent::Received(Some(Ok(Message::Close(_)))) => {
                Err(SubscriptionEnd::ClosedBySubscriber)
            }
            SubscriptionEvent::Received(Some(Err(_)) | None) | SubscriptionEvent::IdleTimeout => {
                Err(SubscriptionEnd::ConnectionLost)
            }
            SubscriptionEvent::Shutdown => {
                Err(SubscriptionEnd::ClosedByRelay(close_code::AWAY, "the relay is shutting down".to_owned()))
            }
            SubscriptionEvent::Ping => send_messages(socket, timeouts, stream.cursor(), ping_message()).await,
            SubscriptionEvent::Events(Ok(chunk)) => {
                send_messages(socket, timeouts, chunk.cursor, event_messages(&chunk)).await
            }
            SubscriptionEvent::Events(Err(e)) => {
                Err(SubscriptionEnd::ClosedByRelay(close_code::ERROR, format!("a log can't be read: {e}")))
            }
        };
        if let Err(end) = result {
            return end;
        }
    }
}

fn ping_message() -> impl Iterator<Item = (Option<u64>, Message)> {
    std::iter::once((None, Message::Ping(Vec::new().into())))
}

fn event_messages(chunk: &Chunk) -> impl Iterator<Item = (Option<u64>, Message)> {
    chunk.lines().map(|(id, line)| {
        // The line is UTF-8: serde wrote it, and its checksum is valid.
        let text = Utf8Bytes::from(String::from_utf8_lossy(line).into_owned());
        (Some(id), Message::Text(text))
    })
}

/// Sends messages with one flush. If that takes too long, fails with the id of the last event that was sent, or with
/// `cursor` if none was.
async fn send_messages(
    socket: &mut WebSocket,
    timeouts: SubscriberTimeouts,
    cursor: u64,
    messages: impl Iterator<Item = (Option<u64>, Message)>,
) -> Result<(), SubscriptionEnd> {
    let mut last_fed_id = None;
    let send_all = async {
        for (id, message) in messages {
            socket.feed(message).await?;
            last_fed_id = id.or(last_fed_id);
        }
        socket.flush().await
    };
    match timeout(timeouts.chunk_timeout, send_all).await {
        Ok(sent) => sent.map_err(|_| SubscriptionEnd::ConnectionLost),
        Err(_) => Err(SubscriptionEnd::TooSlow(last_fed_id.unwrap_or(cursor))),
    }
}
