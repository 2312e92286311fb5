//! Messages to the core: the interface between it and everything that handles connections, files and engines.

use std::time::Duration;

use common::ids::JobId;
use common::wire::{Hello, RelayFrame, TerminationCause};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::scheduler::AgentId;
use crate::container_state::{ContainerState, Death};

/// Number of a connection. Numbers increase, so that an agent's newest connection has the highest one; only that one is
/// current.
pub(super) type ConnectionNumber = u64;

/// Sender of a message: an agent and one of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectionId {
    /// Agent's id.
    pub(super) agent: AgentId,
    /// Number of the connection.
    pub(super) number: ConnectionNumber,
}

/// The core's end of a connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionHandle {
    /// Number of the connection.
    pub(super) id: ConnectionNumber,
    /// The agent's hello; of its jobs, only those that the registry needs more of.
    pub(super) hello: Hello,
    /// Queue of frames to the agent.
    pub(super) outbound: mpsc::Sender<RelayFrame>,
}

impl ConnectionHandle {
    /// Returns the agent and its connection.
    pub(super) fn connection_id(&self) -> ConnectionId {
        ConnectionId { agent: self.hello.agent.as_str().into(), number: self.id }
    }

    /// Returns true if the agent's hello named this job.
    pub(super) fn holds(&self, job: &JobId) -> bool {
        self.hello.jobs.iter().any(|held| held.job == *job)
    }

    /// Queues a frame; returns `false` if the connection has ended or its queue is full.
    pub(super) fn send(&self, frame: RelayFrame) -> bool {
        self.outbound.try_send(frame).is_ok()
    }
}

/// Messages to the core.
pub(super) enum Input {
    /// An agent asks for admission; the reply has the number of its connection and how its container died, if it did.
    /// An agent that is connected may reconnect at any time; others are refused if there are too many.
    Register {
        agent: AgentId,
        reply: oneshot::Sender<Result<(ConnectionNumber, Option<TerminationCause>), String>>,
    },
    /// An agent was welcomed after its hello.
    Connected(ConnectionHandle),
    /// A connection has ended.
    Disconnected { connection_id: ConnectionId, reason: String },
    /// An agent has accepted a job.
    Accepted { connection_id: ConnectionId, job: JobId, epoch: u32 },
    /// An agent has refused a job.
    Refused { connection_id: ConnectionId, job: JobId, reason: String, busy: bool },
    /// Nothing in this process ran for this time.
    Frozen(Duration),
    /// A request was filed in the registry.
    RequestFiled,
    /// An attempt to bring up the platform has finished.
    Ensured(Result<(), String>),
    /// The engine was asked for the address under which containers reach this host: a listener there, if that is needed
    /// and possible.
    Gateway(Option<TcpListener>),
    /// The platform is stopped, or the error of the attempt.
    Stopped(Result<(), String>),
    /// A change of the container was observed.
    Container(ContainerChange),
}

/// Observed change of the container.
#[derive(Debug)]
pub(super) enum ContainerChange {
    /// The container started.
    Started,
    /// The container ended.
    Died(Death),
    /// The engine was asked to stop the container.
    Stopped,
    /// The container was paused.
    Paused,
    /// The container was resumed.
    Unpaused,
    /// The container was removed.
    Removed,
    /// The container was inspected.
    Inspected(ContainerState),
}
