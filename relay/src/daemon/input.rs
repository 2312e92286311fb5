//! What the core is told, and by whom: the seam between it and everything that faces the world.

use std::time::Duration;

use common::ids::JobId;
use common::wire::{Fate, Hello, RelayFrame};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::dispatch::AgentId;
use crate::engine::vitals::Vitals;
use crate::registry::lease::Death;

/// Tells connections apart: they are counted, so that the newest is the highest, and it is the one that counts.
pub(super) type SessionId = u64;

/// Who speaks: an agent, on one of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// Which agent.
    pub(super) agent: AgentId,
    /// On which connection.
    pub(super) session: SessionId,
}

/// The core's end of a connection.
#[derive(Debug, Clone)]
pub(super) struct SessionHandle {
    /// Which connection.
    pub(super) id: SessionId,
    /// Who is there. Of its jobs those that the registry wants more of.
    pub(super) hello: Hello,
    /// Its frames.
    pub(super) outbound: mpsc::Sender<RelayFrame>,
}

impl SessionHandle {
    /// Who speaks there.
    pub(super) fn caller(&self) -> Caller {
        Caller { agent: self.hello.agent.as_str().into(), session: self.id }
    }

    /// True if the agent's hello named this job.
    pub(super) fn holds(&self, job: &JobId) -> bool {
        self.hello.jobs.iter().any(|held| held.job == *job)
    }

    /// Sends a frame; `false` when the connection is gone or stuck.
    pub(super) fn send(&self, frame: RelayFrame) -> bool {
        self.outbound.try_send(frame).is_ok()
    }
}

/// What the core is told.
pub(super) enum Input {
    /// An agent asks to come in, and gets the number of its connection. One that is there may come back at any time;
    /// others are refused when there are too many. It is told how its container died, if it did.
    Knock { agent: AgentId, reply: oneshot::Sender<Result<(SessionId, Option<Fate>), String>> },
    /// An agent has said hello and was welcomed.
    Connected(SessionHandle),
    /// A connection has ended.
    Gone { caller: Caller, reason: String },
    /// An agent has a job.
    Accepted { caller: Caller, job: JobId, epoch: u32 },
    /// An agent will not take a job.
    Refused { caller: Caller, job: JobId, reason: String, busy: bool },
    /// Nothing of this process ran for so long.
    Froze(Duration),
    /// Something was filed in the registry.
    Filed,
    /// The engine has done what it could.
    Ensured(Result<(), String>),
    /// The engine was asked where containers reach this host: a listener there, if that is needed and possible.
    Gateway(Option<TcpListener>),
    /// The platform is stopped, as far as that went.
    Stopped(Result<(), String>),
    /// Something was seen of the container.
    Container(ContainerNews),
}

/// What was seen of the container.
#[derive(Debug)]
pub(super) enum ContainerNews {
    /// It runs.
    Started,
    /// It ended.
    Died(Death),
    /// Somebody asked the engine to stop it.
    Stopped,
    /// It was frozen.
    Paused,
    /// It goes on.
    Unpaused,
    /// It is gone.
    Removed,
    /// Somebody looked at it.
    Seen(Vitals),
}
