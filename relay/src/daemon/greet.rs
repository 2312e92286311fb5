//! The handshake of a connection: identity, protocol version, and what is durable of the agent's jobs.

use std::collections::BTreeSet;

use axum::extract::ws::{Message, WebSocket};
use common::wire::{self, Durable, Hello, TerminationCause};
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::agent_socket::Door;
use super::dispatch::AgentId;
use super::input::{Caller, Input};
use super::session::{End, broken, within};
use super::writer::Command;
use crate::state_dir::tokens::{Denied, TokenId};

/// Maximum number of jobs in a hello: far more than an agent runs. Each of them is looked up.
const MAX_HELD: usize = 4096;
/// Maximum length of an agent's id, in bytes.
const MAX_ID: usize = 64;

/// Binds the token of a connection to the agent that uses it.
pub(super) fn bind(door: &Door, token: &TokenId, hello: &Hello) -> Result<(), End> {
    door.tokens.bind(token, &hello.agent).map_err(|denied| match denied {
        Denied::Foreign { first } => {
            if first {
                tracing::warn!("agent {} came with the token of another agent: refused", hello.agent);
            }
            End::Denied(denied.to_string())
        }
        Denied::Revoked => End::Denied(denied.to_string()),
        // The agent is not at fault and may try again.
        Denied::Unstored(_) => End::Lost(denied.to_string()),
    })
}

/// Registers the agent with the core and numbers its connection; also returns how its container died, if it did.
pub(super) async fn knock(hello: &Hello, door: &Door) -> Result<(Caller, Option<TerminationCause>), End> {
    let stopping = || End::Lost("the relay is stopping".to_owned());
    let (reply, verdict) = oneshot::channel();
    let agent: AgentId = hello.agent.as_str().into();
    let asked = door.core.send(Input::Knock { agent: agent.clone(), reply });
    within("admit it", asked).await?.map_err(|_| stopping())?;
    let session = within("admit it", verdict).await?.map_err(|_| stopping())?;
    let (session, fate) = session.map_err(|reason| End::Refused(wire::CLOSE_PROTOCOL, reason))?;
    Ok((Caller { agent, session }, fate))
}

/// Asks the writer what is durable of the agent's jobs; keeps in the hello those that the registry needs more of.
pub(super) async fn durable(caller: &Caller, hello: &mut Hello, door: &Door) -> Result<Vec<Durable>, End> {
    let (reply, durable) = oneshot::channel();
    let (caller, jobs) = (caller.clone(), hello.jobs.clone());
    within("look", door.writer.send(Command::Durable { caller, jobs, reply })).await?;
    let durable = within("look", durable).await?.map_err(|_| {
        let reason = "the registry can't be read, or a newer connection took over";
        End::Refused(wire::CLOSE_PROTOCOL, reason.to_owned())
    })?;
    // A job missing from the answer still belongs to the agent: its files can't be read at the moment.
    let closed: BTreeSet<_> =
        durable.iter().filter(|held| held.closed).map(|held| (&held.job, held.epoch)).collect();
    hello.jobs.retain(|held| !closed.contains(&(&held.job, held.epoch)));
    Ok(durable)
}

/// Receives the agent's hello and negotiates the protocol version.
pub(super) async fn greet(socket: &mut WebSocket) -> Result<(Hello, u32), End> {
    let refused = |reason: &str| End::Refused(wire::CLOSE_PROTOCOL, reason.to_owned());
    let first = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_)) => return Err(refused("the first message was no hello")),
                Some(Err(e)) => return Err(broken(e)),
                None => return Err(End::Lost("closed before its hello".to_owned())),
            }
        }
    };
    let bytes = timeout(wire::HELLO_TIMEOUT, first).await.map_err(|_| refused("no hello in time"))??;
    // Only the beginning is decoded first: the rest has a form that depends on a common version.
    let greeting = wire::decode_hello_prefix(&bytes).map_err(|e| refused(&e.to_string()))?;
    let protocol = wire::negotiate(&greeting).map_err(|reason| End::Refused(wire::CLOSE_VERSION, reason))?;
    let hello = wire::decode_hello(&bytes, &greeting).map_err(|e| refused(&e.to_string()))?;
    let hello = hello.ok_or_else(|| refused("the first frame was no hello"))?;
    Ok((bounded(hello).map_err(|reason| refused(&reason))?, protocol))
}

/// Bounds the agent's description of itself, which is kept while it is connected and shown to people.
fn bounded(mut hello: Hello) -> Result<Hello, String> {
    if hello.agent.is_empty()
        || hello.agent.len() > MAX_ID
        || !hello.agent.chars().all(|c| c.is_ascii_graphic())
    {
        return Err(format!("an agent's id is 1 to {MAX_ID} visible ASCII characters"));
    }
    if hello.jobs.len() > MAX_HELD {
        return Err(format!("it holds {} jobs: {MAX_HELD} are the most", hello.jobs.len()));
    }
    let cut = |text: &str| common::text::one_line(text, common::event::MAX_TITLE);
    hello.version = cut(&hello.version);
    hello.platform.system = cut(&hello.platform.system);
    hello.platform.codex = hello.platform.codex.as_deref().map(cut);
    hello.platform.codex_problem =
        hello.platform.codex_problem.map(|problem| common::text::one_line(&problem, common::event::MAX_TEXT));
    Ok(hello)
}
