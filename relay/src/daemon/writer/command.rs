//! What the writer is asked and what it answers.

use common::event::{Event, EventBody};
use common::ids::JobId;
use common::record::JobRecord;
use common::wire::{Durable, JobProgress};
use tokio::sync::{mpsc, oneshot};

use crate::daemon::board::Board;
use crate::daemon::dispatch::AgentId;
use crate::daemon::input::Caller;

/// What an agent is told once its events are durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Receipt {
    /// The run they belong to.
    pub(in crate::daemon) epoch: u32,
    /// Every event up to this one.
    pub(in crate::daemon) seq: u64,
    /// The log up to this offset.
    pub(in crate::daemon) output: u64,
    /// Why the connection can't go on: the agent has to come back and begin at what is durable.
    pub(in crate::daemon) problem: Option<String>,
}

/// Where a connection waits for its receipts.
pub(in crate::daemon) type Receipts = Board<JobId, Receipt>;

/// What the writer is asked.
pub(in crate::daemon) enum Command {
    /// A record that the command line has created: log its first event.
    Adopt(JobId),
    /// Events of an agent.
    Events { caller: Caller, job: JobId, epoch: u32, first_seq: u64, batch: Vec<Event>, receipts: Receipts },
    /// Output of a worker.
    Output { caller: Caller, job: JobId, epoch: u32, offset: u64, bytes: Vec<u8>, receipts: Receipts },
    /// An event that the relay itself saw.
    Own { job: JobId, body: Box<EventBody> },
    /// The agent has the job's environment: forget it here.
    DropEnv(JobId),
    /// Move the time limit of a job that no agent has yet.
    MoveLimit { job: JobId, job_ms: u64 },
    /// A job is about to be sent to an agent: from now on that agent speaks of it.
    Offer { job: JobId, agent: AgentId },
    /// A connection has said hello: what is durable of these jobs? Nothing is taken from older connections any more.
    /// Without an answer the connection has to end.
    Durable { caller: Caller, jobs: Vec<JobProgress>, reply: oneshot::Sender<Vec<Durable>> },
    /// A connection has ended.
    Left(Caller),
    /// Everything sent before is on disk when the reply comes, records too.
    Flush(oneshot::Sender<()>),
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct WriterHandle {
    pub(super) commands: mpsc::Sender<Command>,
}

impl WriterHandle {
    /// Sends a command; waits while the writer is behind.
    pub(in crate::daemon) async fn send(&self, command: Command) {
        // It ends with the process alone; a command that comes later has nobody to serve.
        let _ = self.commands.send(command).await;
    }
}

/// The state that the core is told of: newest record per job that changed.
pub(in crate::daemon) type Changes = Board<JobId, JobRecord>;
