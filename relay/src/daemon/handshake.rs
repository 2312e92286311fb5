//! The handshake of a connection: identity, protocol version, and the durable state of the agent's jobs.

use axum::extract::ws::{Message, WebSocket};
use common::wire::{self, Durable, Hello, TerminationCause};
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::app_state::AppState;
use super::connection_end::{EndReason, connection_error, with_answer_timeout};
use super::core::{AgentId, ConnectionId};
use super::frames::remove_closed_jobs;
use super::message::Message as CoreMessage;
use super::writer::WriterCommand;
use crate::state_dir::tokens::{Denied, HolderKind, TokenId};

/// Maximum number of jobs in a hello, far more than an agent runs. It bounds the look-ups in the registry.
const MAX_HELLO_JOBS: usize = 4096;
/// Maximum length of an agent's id, in bytes.
const MAX_ID: usize = 64;

/// Binds the token of a connection to the agent that uses it. Returns the kind of the token's holder.
pub(super) fn bind_token(app: &AppState, token: &TokenId, hello: &Hello) -> Result<HolderKind, EndReason> {
    app.tokens.bind(token, &hello.agent).map_err(|denied| match denied {
        Denied::Foreign { is_first } => {
            if is_first {
                tracing::warn!("agent {} presented the token of another agent: refused", hello.agent);
            }
            EndReason::TokenDenied(denied.to_string())
        }
        Denied::Revoked => EndReason::TokenDenied(denied.to_string()),
        // This is not the agent's fault, so the agent may try again.
        Denied::NotStored(_) => EndReason::Lost(denied.to_string()),
    })
}

/// Registers the agent with the core; returns the cause of the last container exit, if there was one.
pub(super) async fn register(agent: &AgentId, app: &AppState) -> Result<Option<TerminationCause>, EndReason> {
    let stopping = || EndReason::Lost("the relay is stopping".to_owned());
    let (reply, admission) = oneshot::channel();
    let register = app.core.send(CoreMessage::Register { agent: agent.clone(), reply });
    with_answer_timeout("admit it", register).await?.map_err(|_| stopping())?;
    let admission = with_answer_timeout("admit it", admission).await?.map_err(|_| stopping())?;
    admission.map_err(|reason| EndReason::ClosedByRelay(wire::CLOSE_PROTOCOL, reason))
}

/// Queries the writer for the durable state of the agent's jobs, and removes jobs from the hello that are closed in the
/// registry.
pub(super) async fn query_durable(
    connection_id: &ConnectionId,
    hello: &mut Hello,
    app: &AppState,
) -> Result<Vec<Durable>, EndReason> {
    let (reply, durable) = oneshot::channel();
    let (connection_id, jobs) = (connection_id.clone(), hello.jobs.clone());
    with_answer_timeout(
        "answer",
        app.writer.send(WriterCommand::QueryDurable { connection_id, jobs, reply }),
    )
    .await?;
    let durable = with_answer_timeout("answer", durable).await?.map_err(|_| {
        let reason = "the registry can't be read, or a newer connection took over";
        EndReason::ClosedByRelay(wire::CLOSE_PROTOCOL, reason.to_owned())
    })?;
    remove_closed_jobs(hello, &durable);
    Ok(durable)
}

/// Receives the agent's hello and negotiates the protocol version.
pub(super) async fn receive_hello(socket: &mut WebSocket) -> Result<(Hello, u32), EndReason> {
    let refused = |reason: &str| EndReason::ClosedByRelay(wire::CLOSE_PROTOCOL, reason.to_owned());
    let first = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_)) => return Err(refused("the first message was not a hello")),
                Some(Err(e)) => return Err(connection_error(e)),
                None => return Err(EndReason::Lost("closed before its hello".to_owned())),
            }
        }
    };
    let bytes = timeout(wire::HELLO_TIMEOUT, first).await.map_err(|_| refused("no hello in time"))??;
    // Only the beginning is decoded first, because the form of the rest depends on the version.
    let greeting = wire::decode_hello_prefix(&bytes).map_err(|e| refused(&e.to_string()))?;
    let protocol =
        wire::negotiate(&greeting).map_err(|reason| EndReason::ClosedByRelay(wire::CLOSE_VERSION, reason))?;
    let hello = wire::decode_hello(&bytes, &greeting).map_err(|e| refused(&e.to_string()))?;
    let hello = hello.ok_or_else(|| refused("the first frame was not a hello"))?;
    Ok((limit_hello(hello).map_err(|reason| refused(&reason))?, protocol))
}

/// Limits the lengths in a hello, whose texts stay in memory while the agent is connected and are shown to users.
fn limit_hello(mut hello: Hello) -> Result<Hello, String> {
    if hello.agent.is_empty()
        || hello.agent.len() > MAX_ID
        || !hello.agent.chars().all(|c| c.is_ascii_graphic())
    {
        return Err(format!("an agent's id is 1 to {MAX_ID} visible ASCII characters"));
    }
    if hello.jobs.len() > MAX_HELLO_JOBS {
        return Err(format!("it holds {} jobs, more than {MAX_HELLO_JOBS}", hello.jobs.len()));
    }
    let shorten = |text: &str| common::text_format::one_line(text, common::event::MAX_TITLE);
    hello.version = shorten(&hello.version);
    hello.platform.system = shorten(&hello.platform.system);
    hello.platform.codex = hello.platform.codex.as_deref().map(shorten);
    hello.platform.codex_problem = hello
        .platform
        .codex_problem
        .map(|problem| common::text_format::one_line(&problem, common::event::MAX_TEXT));
    Ok(hello)
}
