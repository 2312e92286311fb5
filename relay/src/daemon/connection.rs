//! One connection of an agent.
//!
//! ```text
//!   upgraded ──Hello──► welcomed ──(frames, acks, pings)──► ended
//!      │ no Hello within HELLO_TIMEOUT, no common version      ▲
//!      └────────────────────────────────────────────────────────┘
//! ```
//!
//! A connection ends when it is closed or silent, on a protocol violation, and when the registry can't record the
//! agent's data. The agent then reconnects and sends again all data that is not durable.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use common::ids::JobId;
use common::stream::StreamPart;
use common::wire::{self, AgentFrame, RelayFrame};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::agent_streams::{AgentStreams, Services};
use super::app_state::AppState;
use super::connection_end::{EndReason, connection_error, with_answer_timeout};
use super::core::{Connection, ConnectionId, ConnectionNumber, Input};
use super::frames::{self, FrameRoute};
use super::handshake;
use super::latest_map::LatestMap;
use super::liveness::IdleTimeout;
use super::message::Message as CoreMessage;
use super::writer::Receipt;
use crate::state_dir::tokens::TokenId;

/// Capacity, in frames, of the queue from the core to an agent: all its jobs (at most 50) can be started and cancelled.
const OUTBOUND_CAPACITY: usize = 128;
/// Capacity, in parts, of the queue of stream parts to an agent. Transfers of git wait while it is full.
const STREAM_PART_CAPACITY: usize = 2;
/// Time limit for sending one message. An agent that reads nothing for this time counts as gone.
const SEND_TIMEOUT: Duration = wire::DEAD_AFTER;

enum ReadEvent {
    Message(Option<Result<Message, axum::Error>>),
    IdleTimeout,
}

enum WriteEvent {
    Outbound(Option<RelayFrame>),
    Receipts(Vec<(JobId, Receipt)>),
    Ping,
    /// Part of a stream of git.
    Part(RelayFrame),
}

/// Writing half of a connection.
type FrameSink<'a> = SplitSink<&'a mut WebSocket, Message>;

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
    let holder = handshake::bind_token(app, token, &hello)?;
    let connection_id = ConnectionId { agent: hello.agent.as_str().into(), number };
    let cause = handshake::register(&connection_id.agent, app).await?;
    let durable = handshake::query_durable(&connection_id, &mut hello, app).await?;
    let welcome = RelayFrame::Welcome { protocol, durable, exit_cause: cause, now: app.clock.now() };
    let connection = Connection { number, hello, holder };
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
    if with_answer_timeout("welcome", app.core.send(connected)).await?.is_err() {
        return Err(EndReason::Lost("the relay is stopping".to_owned()));
    }
    serve_frames(socket, app, connection_id, frames).await
}

/// Reads and writes at the same time: the relay still receives frames from an agent that does not read. Otherwise both
/// ends could wait for each other, each with bytes of git for the other.
async fn serve_frames(
    socket: &mut WebSocket,
    app: &AppState,
    connection_id: &ConnectionId,
    frames: mpsc::Receiver<RelayFrame>,
) -> Result<std::convert::Infallible, EndReason> {
    let receipts: LatestMap<JobId, Receipt> = LatestMap::new();
    let (parts, queued_parts) = mpsc::channel(STREAM_PART_CAPACITY);
    let services = Services {
        writer: app.writer.clone(),
        repositories: app.repositories.clone(),
        outputs: app.outputs.clone(),
        model: app.model.clone(),
        network: app.network.clone(),
    };
    let streams = AgentStreams::new(services, connection_id.clone(), parts);
    let (sink, source) = socket.split();
    let reading = read_frames(source, app, connection_id, receipts.clone(), streams);
    let writing = write_frames(sink, frames, receipts, queued_parts);
    let (never, _) = tokio::try_join!(reading, writing)?;
    Ok(never)
}

async fn read_frames(
    mut source: SplitStream<&mut WebSocket>,
    app: &AppState,
    connection_id: &ConnectionId,
    receipts: LatestMap<JobId, Receipt>,
    mut streams: AgentStreams,
) -> Result<std::convert::Infallible, EndReason> {
    let mut idle_timeout = IdleTimeout::starting_at(Instant::now());
    loop {
        // A WebSocket's `next` is cancel-safe.
        let event = tokio::select! {
            message = source.next() => ReadEvent::Message(message),
            () = tokio::time::sleep_until(idle_timeout.deadline()) => ReadEvent::IdleTimeout,
        };
        match event {
            ReadEvent::Message(Some(Ok(message))) => {
                // Only a complete frame resets the timeout. WebSocket fragments and pings don't.
                if matches!(message, Message::Binary(_)) {
                    idle_timeout = IdleTimeout::starting_at(Instant::now());
                }
                handle_message(message, app, connection_id, &receipts, &mut streams).await?;
            }
            ReadEvent::Message(Some(Err(e))) => return Err(connection_error(e)),
            ReadEvent::Message(None) => {
                return Err(EndReason::Lost("the agent closed the connection".to_owned()));
            }
            ReadEvent::IdleTimeout if !idle_timeout.check_expired(Instant::now()) => {}
            ReadEvent::IdleTimeout => {
                let seconds = wire::DEAD_AFTER.as_secs();
                return Err(EndReason::Lost(format!("no message from the agent for {seconds} s")));
            }
        }
    }
}

async fn write_frames(
    mut sink: FrameSink<'_>,
    mut frames: mpsc::Receiver<RelayFrame>,
    receipts: LatestMap<JobId, Receipt>,
    mut parts: mpsc::Receiver<(u32, StreamPart)>,
) -> Result<std::convert::Infallible, EndReason> {
    let mut pings = interval(wire::PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut nonce = 0;
    loop {
        // Every branch is cancel-safe: a channel's `recv`, a map's `take_all` and a tick lose nothing when another
        // branch wins. Sending happens outside of the select. Stream parts come last, so that they delay no receipt.
        let step = tokio::select! {
            biased;
            frame = frames.recv() => WriteEvent::Outbound(frame),
            receipts = receipts.take_all() => WriteEvent::Receipts(receipts.into_iter().collect()),
            _ = pings.tick() => WriteEvent::Ping,
            Some((stream, part)) = parts.recv() => WriteEvent::Part(RelayFrame::Stream { stream, part }),
        };
        match step {
            WriteEvent::Outbound(Some(frame)) | WriteEvent::Part(frame) => {
                send_frame(&mut sink, &frame).await?;
            }
            // The core has a newer connection of this agent.
            WriteEvent::Outbound(None) => {
                return Err(EndReason::ClosedByRelay(
                    wire::CLOSE_REPLACED,
                    "a newer connection took over".to_owned(),
                ));
            }
            WriteEvent::Receipts(receipts) => send_acks(&mut sink, receipts).await?,
            WriteEvent::Ping => {
                nonce += 1;
                send_frame(&mut sink, &RelayFrame::Ping { nonce }).await?;
            }
        }
    }
}

async fn handle_message(
    message: Message,
    app: &AppState,
    connection_id: &ConnectionId,
    receipts: &LatestMap<JobId, Receipt>,
    streams: &mut AgentStreams,
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
            app.evidence.note_evidence(&command);
            with_answer_timeout(action, app.writer.send(command)).await
        }
        FrameRoute::Core(input) => {
            with_answer_timeout("take an answer", app.core.send(input.into())).await.map(drop)
        }
        FrameRoute::OpenStream(request) => streams.open_stream(request).map_err(refused),
        FrameRoute::StreamPart { stream, part } => streams.receive_part(stream, part).map_err(refused),
        FrameRoute::Ignored => Ok(()),
    }
}

async fn send_acks(sink: &mut FrameSink<'_>, receipts: Vec<(JobId, Receipt)>) -> Result<(), EndReason> {
    for (job, receipt) in receipts {
        let frames = frames::acknowledgement(job, receipt)
            .map_err(|reason| EndReason::ClosedByRelay(wire::CLOSE_PROTOCOL, reason))?;
        for frame in &frames {
            send_frame(sink, frame).await?;
        }
    }
    Ok(())
}

async fn send_frame(
    socket: &mut (impl Sink<Message, Error = axum::Error> + Unpin),
    frame: &RelayFrame,
) -> Result<(), EndReason> {
    let bytes =
        wire::encode(frame).map_err(|e| EndReason::Lost(format!("a frame could not be written: {e}")))?;
    match timeout_at(Instant::now() + SEND_TIMEOUT, socket.send(Message::Binary(bytes.into()))).await {
        Ok(sent) => sent.map_err(|e| EndReason::Lost(e.to_string())),
        Err(_) => Err(EndReason::Lost("the agent does not read its connection".to_owned())),
    }
}
