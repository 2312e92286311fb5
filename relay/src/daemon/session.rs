//! One connection of an agent.
//!
//! ```text
//!   upgraded ──Hello──► welcomed ──(frames, acks, pings)──► ended
//!      │ no Hello within HELLO_TIMEOUT, no common version      ▲
//!      └────────────────────────────────────────────────────────┘
//! ```
//!
//! Ends on a closed or silent connection, on a broken protocol, and when the registry can't take what it sends: the agent
//! then comes back and sends it again from what is durable.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use common::ids::JobId;
use common::wire::{self, AgentFrame, Durable, Fate, Hello, RelayFrame};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::agent_socket::Door;
use super::board::Board;
use super::input::{Input, SessionHandle, SessionId};
use super::writer::{Command, Receipt};

/// Frames from the core that may wait: every job of an agent (at most 50) can be started and cancelled at once.
const OUTBOUND: usize = 128;
/// How long one message may take to leave. An agent that reads nothing for so long is gone.
const SEND_TIMEOUT: Duration = wire::DEAD_AFTER;

/// Why a connection ended.
enum End {
    /// The other side, or the network.
    Lost(String),
    /// This side: close code and reason.
    Refused(u16, String),
}

/// What can happen on a connection.
enum Step {
    Message(Option<Result<Message, axum::Error>>),
    Outbound(Option<RelayFrame>),
    Receipts(Vec<(JobId, Receipt)>),
    Ping,
    Silence,
}

/// Serves a connection to its end.
pub(super) async fn run(mut socket: WebSocket, door: Door) {
    let end = match serve(&mut socket, &door).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    if let End::Refused(code, reason) = end {
        tracing::warn!("an agent's connection was closed: {reason}");
        // A close frame's reason has room for 123 bytes.
        let reason = common::text::truncate(&reason, 120);
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // Best effort: the other side may be gone.
        let _ = timeout(Duration::from_secs(1), socket.send(close)).await;
    }
}

async fn serve(socket: &mut WebSocket, door: &Door) -> Result<std::convert::Infallible, End> {
    let hello = greet(socket).await?;
    let protocol = wire::negotiate(hello.protocol_min, hello.protocol_max, &hello.version)
        .map_err(|reason| End::Refused(wire::CLOSE_VERSION, reason))?;
    let fate = knock(&hello, door).await?;
    let (reply, durable) = oneshot::channel();
    door.writer.send(Command::Durable { jobs: hello.jobs.clone(), reply }).await;
    let durable: Vec<Durable> = durable
        .await
        .map_err(|_| End::Refused(wire::CLOSE_PROTOCOL, "the registry can't be read".to_owned()))?;
    send(socket, &RelayFrame::Welcome { protocol, durable, fate }).await?;

    let (outbound, frames) = mpsc::channel(OUTBOUND);
    let id = rand_id();
    let handle = SessionHandle { id, hello, outbound };
    if door.core.send(Input::Connected(handle)).await.is_err() {
        return Err(End::Lost("the relay is stopping".to_owned()));
    }
    let end = pump(socket, door, id, frames).await;
    let reason = match &end {
        Err(End::Lost(reason) | End::Refused(_, reason)) => reason.clone(),
        Ok(_) => String::new(),
    };
    let _ = door.core.send(Input::Gone { id, reason }).await;
    end
}

/// Asks whether this agent may come in: a registry has one platform, and two agents would end each other's jobs.
async fn knock(hello: &Hello, door: &Door) -> Result<Option<Fate>, End> {
    let stopping = || End::Lost("the relay is stopping".to_owned());
    let (reply, verdict) = oneshot::channel();
    let agent = hello.agent.clone();
    door.core.send(Input::Knock { agent, reply }).await.map_err(|_| stopping())?;
    verdict.await.map_err(|_| stopping())?.map_err(|reason| End::Refused(wire::CLOSE_PROTOCOL, reason))
}

/// Waits for the agent to say who it is.
async fn greet(socket: &mut WebSocket) -> Result<Hello, End> {
    let refused = |reason: &str| End::Refused(wire::CLOSE_PROTOCOL, reason.to_owned());
    let first = timeout(wire::HELLO_TIMEOUT, socket.next()).await.map_err(|_| refused("no hello in time"))?;
    match first {
        Some(Ok(Message::Binary(bytes))) => match wire::decode::<AgentFrame>(&bytes) {
            Ok(AgentFrame::Hello(hello)) => Ok(*hello),
            Ok(_) => Err(refused("the first frame was no hello")),
            Err(e) => Err(refused(&e.to_string())),
        },
        Some(Ok(_)) => Err(refused("the first message was no hello")),
        Some(Err(e)) => Err(End::Lost(e.to_string())),
        None => Err(End::Lost("closed before its hello".to_owned())),
    }
}

async fn pump(
    socket: &mut WebSocket,
    door: &Door,
    id: SessionId,
    mut frames: mpsc::Receiver<RelayFrame>,
) -> Result<std::convert::Infallible, End> {
    let receipts: Board<JobId, Receipt> = Board::new();
    let mut pings = interval(wire::PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut nonce = 0;
    loop {
        // Every branch is cancel-safe: a WebSocket's `next`, a channel's `recv`, a board's `take` and a tick lose
        // nothing when another branch wins. Sending happens outside of the select.
        let step = tokio::select! {
            message = socket.next() => Step::Message(message),
            frame = frames.recv() => Step::Outbound(frame),
            receipts = receipts.take() => Step::Receipts(receipts.into_iter().collect()),
            _ = pings.tick() => Step::Ping,
            () = tokio::time::sleep_until(heard + wire::DEAD_AFTER) => Step::Silence,
        };
        match step {
            Step::Message(Some(Ok(message))) => {
                heard = Instant::now();
                receive(message, door, id, &receipts).await?;
            }
            Step::Message(Some(Err(e))) => return Err(End::Lost(e.to_string())),
            Step::Message(None) => return Err(End::Lost("the agent closed the connection".to_owned())),
            Step::Outbound(Some(frame)) => send(socket, &frame).await?,
            // The core has another connection of this agent by now.
            Step::Outbound(None) => {
                return Err(End::Refused(wire::CLOSE_REPLACED, "a newer connection took over".to_owned()));
            }
            Step::Receipts(receipts) => acknowledge(socket, receipts).await?,
            Step::Ping => {
                nonce += 1;
                send(socket, &RelayFrame::Ping { nonce }).await?;
            }
            Step::Silence => {
                let seconds = wire::DEAD_AFTER.as_secs();
                return Err(End::Lost(format!("nothing was heard of the agent for {seconds} s")));
            }
        }
    }
}

async fn receive(
    message: Message,
    door: &Door,
    id: SessionId,
    receipts: &Board<JobId, Receipt>,
) -> Result<(), End> {
    let refused = |reason: String| End::Refused(wire::CLOSE_PROTOCOL, reason);
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Close(_) => return Err(End::Lost("the agent closed the connection".to_owned())),
        Message::Ping(_) | Message::Pong(_) => return Ok(()),
        Message::Text(_) => return Err(refused("a text message".to_owned())),
    };
    let frame = wire::decode::<AgentFrame>(&bytes).map_err(|e| refused(e.to_string()))?;
    match frame {
        AgentFrame::Hello(_) => return Err(refused("a second hello".to_owned())),
        AgentFrame::Events { job, epoch, first_seq, batch } => {
            if batch.len() > wire::MAX_BATCH || first_seq == 0 {
                return Err(refused(format!("a batch of {} events from {first_seq}", batch.len())));
            }
            let receipts = receipts.clone();
            door.writer.send(Command::Events { job, epoch, first_seq, batch, receipts }).await;
        }
        AgentFrame::Output { job, epoch, offset, bytes } => {
            let receipts = receipts.clone();
            door.writer.send(Command::Output { job, epoch, offset, bytes, receipts }).await;
        }
        AgentFrame::Accepted { job, epoch } => {
            let _ = door.core.send(Input::Accepted { id, job, epoch }).await;
        }
        AgentFrame::Refused { job, epoch: _, reason, busy } => {
            let reason = common::text::one_line(&reason, common::event::MAX_TEXT);
            let _ = door.core.send(Input::Refused { id, job, reason, busy }).await;
        }
        AgentFrame::Pong { .. } => {}
    }
    Ok(())
}

async fn acknowledge(socket: &mut WebSocket, receipts: Vec<(JobId, Receipt)>) -> Result<(), End> {
    for (job, receipt) in receipts {
        if let Some(problem) = receipt.problem {
            return Err(End::Refused(wire::CLOSE_PROTOCOL, format!("{job}: {problem}")));
        }
        let epoch = receipt.epoch;
        send(socket, &RelayFrame::Ack { job: job.clone(), epoch, seq: receipt.seq }).await?;
        send(socket, &RelayFrame::OutputAck { job, epoch, offset: receipt.output }).await?;
    }
    Ok(())
}

async fn send(socket: &mut WebSocket, frame: &RelayFrame) -> Result<(), End> {
    let bytes = wire::encode(frame).map_err(|e| End::Lost(format!("a frame could not be written: {e}")))?;
    match timeout_at(Instant::now() + SEND_TIMEOUT, socket.send(Message::Binary(bytes.into()))).await {
        Ok(sent) => sent.map_err(|e| End::Lost(e.to_string())),
        Err(_) => Err(End::Lost("the agent takes nothing any more".to_owned())),
    }
}

/// Unlike every other connection's with near certainty; nothing secret hangs on it.
fn rand_id() -> SessionId {
    let mut bytes = [0; 8];
    // Without randomness all ids are 0: then an old connection's end can be taken for the new one's, which heals.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
