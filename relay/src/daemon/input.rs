//! What the core is told, and by whom: the seam between it and everything that faces the world.

use common::ids::JobId;
use common::wire::{Fate, Hello, RelayFrame};
use tokio::sync::{mpsc, oneshot};

use crate::engine::vitals::Vitals;
use crate::registry::lease::Death;

/// Tells an agent's connections apart: the newest is the one that counts.
pub(super) type SessionId = u64;

/// The core's end of a connection.
#[derive(Debug, Clone)]
pub(super) struct SessionHandle {
    /// Which connection.
    pub(super) id: SessionId,
    /// Who is there.
    pub(super) hello: Hello,
    /// Its frames.
    pub(super) outbound: mpsc::Sender<RelayFrame>,
}

impl SessionHandle {
    /// Sends a frame; `false` when the connection is gone or stuck.
    pub(super) fn send(&self, frame: RelayFrame) -> bool {
        self.outbound.try_send(frame).is_ok()
    }
}

/// What the core is told.
pub(super) enum Input {
    /// An agent asks to come in. It is refused while another one is there; the same one may come back at any time.
    /// The answer tells it how its container died, if it did.
    Knock { agent: String, reply: oneshot::Sender<Result<Option<Fate>, String>> },
    /// An agent has said hello and was welcomed.
    Connected(SessionHandle),
    /// A connection has ended.
    Gone { id: SessionId, reason: String },
    /// The agent has a job.
    Accepted { id: SessionId, job: JobId, epoch: u32 },
    /// The agent will not take a job.
    Refused { id: SessionId, job: JobId, reason: String, busy: bool },
    /// Something was filed in the registry.
    Filed,
    /// The engine has done what it could.
    Ensured(Result<(), String>),
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
