//! Commands to the writer, and its receipts.

use common::event::{Event, EventBody};
use common::ids::JobId;
use common::record::JobRecord;
use common::wire::{Durable, JobProgress};
use tokio::sync::{mpsc, oneshot};

use crate::daemon::core::AgentId;
use crate::daemon::core::ConnectionId;
use crate::daemon::latest_map::LatestMap;

/// Receipt for an agent whose events are durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Receipt {
    /// Run that the events belong to.
    pub(in crate::daemon) epoch: u32,
    /// Sequence number up to which events are durable.
    pub(in crate::daemon) seq: u64,
    /// Offset up to which the output is durable.
    pub(in crate::daemon) output: u64,
    /// Reason why the connection can't go on: the agent must reconnect and begin at what is durable.
    pub(in crate::daemon) problem: Option<String>,
}

/// Map on which a connection waits for its receipts.
pub(in crate::daemon) type Receipts = LatestMap<JobId, Receipt>;

/// Command to the writer.
pub(in crate::daemon) enum Command {
    /// Log the first event of a record that the command line has created.
    Adopt(JobId),
    /// Record events of an agent.
    Events {
        connection_id: ConnectionId,
        job: JobId,
        epoch: u32,
        first_seq: u64,
        batch: Vec<Event>,
        receipts: Receipts,
    },
    /// Record output of a worker.
    Output {
        connection_id: ConnectionId,
        job: JobId,
        epoch: u32,
        offset: u64,
        bytes: Vec<u8>,
        receipts: Receipts,
    },
    /// Record an event of the relay's own.
    Own { job: JobId, body: Box<EventBody> },
    /// Remove the job's environment values from its spec: the agent has them.
    DropEnv(JobId),
    /// Move the time limit of a job that no agent has yet.
    MoveLimit { job: JobId, job_ms: u64 },
    /// Assign a job that is about to be sent to an agent: from now on that agent may send its events.
    Offer { job: JobId, agent: AgentId },
    /// Report what is durable of these jobs to a connection after its hello. Nothing is accepted from older connections
    /// any more. Without an answer the connection must end.
    Durable { connection_id: ConnectionId, jobs: Vec<JobProgress>, reply: oneshot::Sender<Vec<Durable>> },
    /// Remove a connection that has ended.
    Left(ConnectionId),
    /// Reply once everything sent before is on disk, records too.
    Flush(oneshot::Sender<()>),
}

/// Sender of commands to the writer.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct WriterHandle {
    pub(super) commands: mpsc::Sender<Command>,
}

impl WriterHandle {
    /// Sends a command; waits while the queue is full.
    pub(in crate::daemon) async fn send(&self, command: Command) {
        // The writer ends only with the process; a command that comes later has no effect.
        let _ = self.commands.send(command).await;
    }
}

/// Newest record of each changed job, for the core.
pub(in crate::daemon) type Changes = LatestMap<JobId, JobRecord>;
