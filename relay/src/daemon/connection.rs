//! One connection of an agent.
//!
//! ```text
//!   upgraded ──Hello──► welcomed ──(frames, acks, pings)──► ended
//!      │ no Hello within HELLO_TIMEOUT, no common version      ▲
//!      └────────────────────────────────────────────────────────┘
//! ```
//!
//! A connection ends when it is closed or silent, on a protocol violation, and when the registry can't record what the
//! agent sends: the agent then reconnects and sends it again from what is durable.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use common::ids::JobId;
use common::wire::{self, AgentFrame, Hello, RelayFrame};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tungstenite::protocol::frame::coding::CloseCode;

use super::core::{Connection, ConnectionId, Input};
use super::frames::{self, Route};
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
/// Time limit for sending one message. An agent that reads nothing for so long is gone.
const SEND_TIMEOUT: Duration = wire::DEAD_AFTER;
/// Time limit for the core or the writer. Nothing is lost beyond it: the agent sends it again.
const REGISTRY_TIMEOUT: Duration = wire::DEAD_AFTER;

/// Reason why a connection ended.
pub(super) enum End {
    /// Ended by the other side, or by the network.
    Lost(String),
    /// Ended by this side: close code and reason.
    Refused(u16, String),
    /// Ended by this side because of the agent's token. Not logged here: an agent may retry again and again.
    Denied(String),
}

/// Event on a connection.
enum Step {
    Message(Option<Result<Message, axum::Error>>),
    Outbound(Option<RelayFrame>),
    Receipts(Vec<(JobId, Receipt)>),
    Ping,
    IdleTimeout,
}

/// Serves a connection to its end.
pub(super) async fn run(mut socket: WebSocket, app: AppState, token: TokenId) {
    let end = match serve(&mut socket, &app, &token).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    let refusal = match end {
        End::Refused(code, reason) => {
            tracing::warn!("an agent's connection was closed: {reason}");
            Some((code, reason))
        }
        End::Denied(reason) => Some((wire::CLOSE_PROTOCOL, reason)),
        End::Lost(_) => None,
    };
    if let Some((code, reason)) = refusal {
        // A close frame holds at most 123 bytes of reason.
        let reason = common::text::truncate(&reason, 120);
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // Best effort: the other side may be gone.
        let _ = timeout(Duration::from_secs(1), socket.send(close)).await;
    }
}

async fn serve(
    socket: &mut WebSocket,
    app: &AppState,
    token: &TokenId,
) -> Result<std::convert::Infallible, End> {
    let (mut hello, protocol) = handshake::receive_hello(socket).await?;
    handshake::bind_token(app, token, &hello)?;
    let (connection_id, cause) = handshake::register(&hello, app).await?;
    let durable = handshake::query_durable(&connection_id, &mut hello, app).await?;
    let welcome = RelayFrame::Welcome { protocol, durable, cause, now: app.clock.now() };
    let end = serve_welcomed(socket, app, &connection_id, hello, welcome).await;
    let reason = match &end {
        Err(End::Lost(reason) | End::Refused(_, reason) | End::Denied(reason)) => reason.clone(),
        Ok(_) => String::new(),
    };
    let _ = app.core.send(Input::Disconnected { connection_id, reason }.into()).await;
    end
}

async fn serve_welcomed(
    socket: &mut WebSocket,
    app: &AppState,
    connection_id: &ConnectionId,
    hello: Hello,
    welcome: RelayFrame,
) -> Result<std::convert::Infallible, End> {
    send(socket, &welcome).await?;
    let (outbound, frames) = mpsc::channel(OUTBOUND_CAPACITY);
    let connection = Connection { number: connection_id.number, hello };
    let connected = CoreMessage::Connected { connection, outbound };
    if within("welcome", app.core.send(connected)).await?.is_err() {
        return Err(End::Lost("the relay is stopping".to_owned()));
    }
    serve_frames(socket, app, connection_id, frames).await
}

/// Waits for the core or the writer, within `REGISTRY_TIMEOUT`.
pub(super) async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, End> {
    let late = |_| End::Lost(format!("the registry did not {what} within {} s", REGISTRY_TIMEOUT.as_secs()));
    timeout(REGISTRY_TIMEOUT, work).await.map_err(late)
}

/// Converts an error of the connection.
pub(super) fn connection_error(error: axum::Error) -> End {
    let error = error.into_inner();
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(e)) => End::Refused(CloseCode::Size.into(), e.to_string()),
        // A process that dies leaves TLS in this state.
        Some(tungstenite::Error::Io(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            End::Lost("the agent closed the connection".to_owned())
        }
        _ => End::Lost(error.to_string()),
    }
}

async fn serve_frames(
    socket: &mut WebSocket,
    app: &AppState,
    connection_id: &ConnectionId,
    mut frames: mpsc::Receiver<RelayFrame>,
) -> Result<std::convert::Infallible, End> {
    let receipts: LatestMap<JobId, Receipt> = LatestMap::new();
    let mut pings = interval(wire::PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle_timeout = IdleTimeout::starting_at(Instant::now());
    let mut nonce = 0;
    loop {
        // Every branch is cancel-safe: a WebSocket's `next`, a channel's `recv`, a map's `take_all` and a tick lose
        // nothing when another branch wins. Sending happens outside of the select.
        let step = tokio::select! {
            message = socket.next() => Step::Message(message),
            frame = frames.recv() => Step::Outbound(frame),
            receipts = receipts.take_all() => Step::Receipts(receipts.into_iter().collect()),
            _ = pings.tick() => Step::Ping,
            () = tokio::time::sleep_until(idle_timeout.until()) => Step::IdleTimeout,
        };
        match step {
            Step::Message(Some(Ok(message))) => {
                // Only a complete frame counts: WebSocket fragments and pings prove nothing, however many.
                if matches!(message, Message::Binary(_)) {
                    idle_timeout = IdleTimeout::starting_at(Instant::now());
                }
                receive(message, app, connection_id, &receipts).await?;
            }
            Step::Message(Some(Err(e))) => return Err(connection_error(e)),
            Step::Message(None) => return Err(End::Lost("the agent closed the connection".to_owned())),
            Step::Outbound(Some(frame)) => send(socket, &frame).await?,
            // The core has a newer connection of this agent.
            Step::Outbound(None) => {
                return Err(End::Refused(wire::CLOSE_REPLACED, "a newer connection took over".to_owned()));
            }
            Step::Receipts(receipts) => acknowledge(socket, receipts).await?,
            Step::Ping => {
                nonce += 1;
                send(socket, &RelayFrame::Ping { nonce }).await?;
            }
            Step::IdleTimeout if !idle_timeout.is_over(Instant::now()) => {}
            Step::IdleTimeout => {
                let seconds = wire::DEAD_AFTER.as_secs();
                return Err(End::Lost(format!("no message from the agent for {seconds} s")));
            }
        }
    }
}

async fn receive(
    message: Message,
    app: &AppState,
    connection_id: &ConnectionId,
    receipts: &LatestMap<JobId, Receipt>,
) -> Result<(), End> {
    let refused = |reason: String| End::Refused(wire::CLOSE_PROTOCOL, reason);
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Close(_) => return Err(End::Lost("the agent closed the connection".to_owned())),
        Message::Ping(_) | Message::Pong(_) => return Ok(()),
        Message::Text(_) => return Err(refused("a text message".to_owned())),
    };
    let frame = wire::decode::<AgentFrame>(&bytes).map_err(|e| refused(e.to_string()))?;
    match frames::route(frame, connection_id, receipts).map_err(refused)? {
        Route::Writer { what, command } => within(what, app.writer.send(command)).await,
        Route::Core(input) => within("take an answer", app.core.send(input.into())).await.map(drop),
        Route::Nothing => Ok(()),
    }
}

async fn acknowledge(socket: &mut WebSocket, receipts: Vec<(JobId, Receipt)>) -> Result<(), End> {
    for (job, receipt) in receipts {
        let frames = frames::acknowledgement(job, receipt)
            .map_err(|reason| End::Refused(wire::CLOSE_PROTOCOL, reason))?;
        for frame in &frames {
            send(socket, frame).await?;
        }
    }
    Ok(())
}

async fn send(socket: &mut WebSocket, frame: &RelayFrame) -> Result<(), End> {
    let bytes = wire::encode(frame).map_err(|e| End::Lost(format!("a frame could not be written: {e}")))?;
    match timeout_at(Instant::now() + SEND_TIMEOUT, socket.send(Message::Binary(bytes.into()))).await {
        Ok(sent) => sent.map_err(|e| End::Lost(e.to_string())),
        Err(_) => Err(End::Lost("the agent does not read its connection".to_owned())),
    }
}
