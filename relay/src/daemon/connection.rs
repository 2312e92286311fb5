//! One connection of an agent.
//!
//! ```text
//!   upgraded ──Hello──► welcomed ──(frames, acks, pings)──► ended
//!      │ no Hello within HELLO_TIMEOUT, no common version      ▲
//!      └────────────────────────────────────────────────────────┘
//! ```
//!
//! A connection ends when it is closed or silent, on a protocol violation, and when the registry can't record the
//! agent's data. The agent then reconnects and sends all data that is not durable again.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use common::ids::JobId;
use common::wire::{self, AgentFrame, RelayFrame};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tungstenite::protocol::frame::coding::CloseCode;

use super::core::{Connection, ConnectionId, ConnectionNumber, Input};
use super::frames::{self, FrameRoute};
use super::handshake;
use super::latest_map::LatestMap;
use super::liveness::IdleTimeout;
use super::message::Message as CoreMessage;
use super::upgrade::AppState;
use super::writer::Receipt;
use crate::state_dir::tokens::TokenId;

/// Capacity of the queue of frames from the core: every job of an agent (at most 50) can be started and cancelled at
/// once.
const OUTBOUND_CAPACITY: usize = 128;
/// Time limit for sending one message. An agent that reads nothing for this time is gone.
const SEND_TIMEOUT: Duration = wire::DEAD_AFTER;
/// Time limit for an answer of the core or the writer. When it is exceeded, no data is lost, because the agent sends
/// the data again.
const REGISTRY_TIMEOUT: Duration = wire::DEAD_AFTER;

/// Reason why a connection ended.
pub(super) enum EndReason {
    /// Ended by the other side, or by the network.
    Lost(String),
    /// Ended by this side: close code and reason.
    ClosedByRelay(u16, String),
    /// Ended by this side because of the agent's token. Not logged, because an agent may retry often.
    TokenDenied(String),
}

enum ConnectionEvent {
    Message(Option<Result<Message, axum::Error>>),
    Outbound(Option<RelayFrame>),
    Receipts(Vec<(JobId, Receipt)>),
    Ping,
    IdleTimeout,
}

/// Serves a connection to its end.
pub(super) async fn run(mut socket: WebSocket, app: AppState, token: TokenId, number: ConnectionNumber) {
    let end = match serve_until_end(&mut socket, &app, &token, number).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    let refusal = match end {
        EndReason::ClosedByRelay(code, reason) => {
            tracing::warn!("an agent's connection was closed: {reason}");
            Some((code, reason))
        }
        EndReason::TokenDenied(reason) => Some((wire::CLOSE_PROTOCOL, reason)),
        EndReason::Lost(_) => None,
    };
    if let Some((code, reason)) = refusal {
        // A close frame holds at most 123 bytes of reason.
        let reason = common::text_format::truncate(&reason, 120);
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // Best effort: the other side may be gone.
        let _ = timeout(Duration::from_secs(1), socket.send(close)).await;
    }
}

async fn serve_until_end(
    socket: &mut WebSocket,
    app: &AppState,
    token: &TokenId,
    number: ConnectionNumber,
) -> Result<std::convert::Infallible, EndReason> {
    let (mut hello, protocol) = handshake::receive_hello(socket).await?;
    let is_platform = handshake::bind_token(app, token, &hello)?;
    let connection_id = ConnectionId { agent: hello.agent.as_str().into(), number };
    let cause = handshake::register(&connection_id.agent, app).await?;
    let durable = handshake::query_durable(&connection_id, &mut hello, app).await?;
    let welcome = RelayFrame::Welcome { protocol, durable, cause, now: app.clock.now() };
    let connection = Connection { number, hello, is_platform };
    let end = serve_welcomed(socket, app, &connection_id, connection, welcome).await;
    let reason = match &end {
        Err(
            EndReason::Lost(reason) | EndReason::ClosedByRelay(_, reason) | EndReason::TokenDenied(reason),
        ) => reason.clone(),
        Ok(_) => String::new(),
    };
    let _ = app.core.send(Input::Disconnected { connection_id, reason }.into()).await;
    end
}

async fn serve_welcomed(
    socket: &mut WebSocket,
    app: &AppState,
    connection_id: &ConnectionId,
    connection: Connection,
    welcome: RelayFrame,
) -> Result<std::convert::Infallible, EndReason> {
    send_frame(socket, &welcome).await?;
    let (outbound, frames) = mpsc::channel(OUTBOUND_CAPACITY);
    let connected = CoreMessage::Connected { connection, outbound };
    if with_registry_timeout("welcome", app.core.send(connected)).await?.is_err() {
        return Err(EndReason::Lost("the relay is stopping".to_owned()));
    }
    serve_frames(socket, app, connection_id, frames).await
}

/// Waits for the core or the writer, at most for `REGISTRY_TIMEOUT`. `action` completes the message "the registry did
/// not …".
pub(super) async fn with_registry_timeout<T>(
    action: &str,
    work: impl Future<Output = T>,
) -> Result<T, EndReason> {
    let timed_out =
        |_| EndReason::Lost(format!("the registry did not {action} within {} s", REGISTRY_TIMEOUT.as_secs()));
    timeout(REGISTRY_TIMEOUT, work).await.map_err(timed_out)
}

/// Converts an error of the connection into the reason why it ended.
pub(super) fn connection_error(error: axum::Error) -> EndReason {
    let error = error.into_inner();
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(e)) => {
            EndReason::ClosedByRelay(CloseCode::Size.into(), e.to_string())
        }
        // A dying process does not close TLS properly.
        Some(tungstenite::Error::Io(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            EndReason::Lost("the agent closed the connection".to_owned())
        }
        _ => EndReason::Lost(error.to_string()),
    }
}

async fn serve_frames(
    socket: &mut WebSocket,
    app: &AppState,
    connection_id: &ConnectionId,
    mut frames: mpsc::Receiver<RelayFrame>,
) -> Result<std::convert::Infallible, EndReason> {
    let receipts: LatestMap<JobId, Receipt> = LatestMap::new();
    let mut pings = interval(wire::PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle_timeout = IdleTimeout::starting_at(Instant::now());
    let mut nonce = 0;
    loop {
        // Every branch is cancel-safe: a WebSocket's `next`, a channel's `recv`, a map's `take_all` and a tick lose
        // nothing when another branch wins. Sending happens outside of the select.
        let event = tokio::select! {
            message = socket.next() => ConnectionEvent::Message(message),
            frame = frames.recv() => ConnectionEvent::Outbound(frame),
            receipts = receipts.take_all() => ConnectionEvent::Receipts(receipts.into_iter().collect()),
            _ = pings.tick() => ConnectionEvent::Ping,
            () = tokio::time::sleep_until(idle_timeout.deadline()) => ConnectionEvent::IdleTimeout,
        };
        match event {
            ConnectionEvent::Message(Some(Ok(message))) => {
                // Only a complete frame resets the timeout. WebSocket fragments and pings don't.
                if matches!(message, Message::Binary(_)) {
                    idle_timeout = IdleTimeout::starting_at(Instant::now());
                }
                handle_message(message, app, connection_id, &receipts).await?;
            }
            ConnectionEvent::Message(Some(Err(e))) => return Err(connection_error(e)),
            ConnectionEvent::Message(None) => {
                return Err(EndReason::Lost("the agent closed the connection".to_owned()));
            }
            ConnectionEvent::Outbound(Some(frame)) => send_frame(socket, &frame).await?,
            // The core has a newer connection of this agent.
            ConnectionEvent::Outbound(None) => {
                return Err(EndReason::ClosedByRelay(
                    wire::CLOSE_REPLACED,
                    "a newer connection took over".to_owned(),
                ));
            }
            ConnectionEvent::Receipts(receipts) => send_acks(socket, receipts).await?,
            ConnectionEvent::Ping => {
                nonce += 1;
                send_frame(socket, &RelayFrame::Ping { nonce }).await?;
            }
            ConnectionEvent::IdleTimeout if !idle_timeout.is_expired(Instant::now()) => {}
            ConnectionEvent::IdleTimeout => {
                let seconds = wire::DEAD_AFTER.as_secs();
                return Err(EndReason::Lost(format!("no message from the agent for {seconds} s")));
            }
        }
    }
}

async fn handle_message(
    message: Message,
    app: &AppState,
    connection_id: &ConnectionId,
    receipts: &LatestMap<JobId, Receipt>,
) -> Result<(), EndReason> {
    let refused = |reason: String| EndReason::ClosedByRelay(wire::CLOSE_PROTOCOL, reason);
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Close(_) => return Err(EndReason::Lost("the agent closed the connection".to_owned())),
        Message::Ping(_) | Message::Pong(_) => return Ok(()),
        Message::Text(_) => return Err(refused("a text message".to_owned())),
    };
    let frame = wire::decode::<AgentFrame>(&bytes).map_err(|e| refused(e.to_string()))?;
    match frames::route_frame(frame, connection_id, receipts).map_err(refused)? {
        FrameRoute::Writer { action, command } => {
            with_registry_timeout(action, app.writer.send(command)).await
        }
        FrameRoute::Core(input) => {
            with_registry_timeout("take an answer", app.core.send(input.into())).await.map(drop)
        }
        FrameRoute::Ignored => Ok(()),
    }
}

async fn send_acks(socket: &mut WebSocket, receipts: Vec<(JobId, Receipt)>) -> Result<(), EndReason> {
    for (job, receipt) in receipts {
        let frames = frames::acknowledgement(job, receipt)
            .map_err(|reason| EndReason::ClosedByRelay(wire::CLOSE_PROTOCOL, reason))?;
        for frame in &frames {
            send_frame(socket, frame).await?;
        }
    }
    Ok(())
}

async fn send_frame(socket: &mut WebSocket, frame: &RelayFrame) -> Result<(), EndReason> {
    let bytes =
        wire::encode(frame).map_err(|e| EndReason::Lost(format!("a frame could not be written: {e}")))?;
    match timeout_at(Instant::now() + SEND_TIMEOUT, socket.send(Message::Binary(bytes.into()))).await {
        Ok(sent) => sent.map_err(|e| EndReason::Lost(e.to_string())),
        Err(_) => Err(EndReason::Lost("the agent does not read its connection".to_owned())),
    }
}
