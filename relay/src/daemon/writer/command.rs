//! Commands to the writer, and the receipts that the writer sends.

use common::event::{Event, EventBody};
use common::ids::JobId;
use common::record::JobRecord;
use common::wire::{Durable, JobProgress};
use tokio::sync::{mpsc, oneshot};

use crate::daemon::core::AgentId;
use crate::daemon::core::ConnectionId;
use crate::daemon::latest_map::LatestMap;

/// Receipt for an agent: how much of a job's data is durable, or why the agent must reconnect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Receipt {
    /// Run that the events belong to.
    pub(in crate::daemon) epoch: u32,
    /// Sequence number up to which events are durable.
    pub(in crate::daemon) seq: u64,
    /// Offset up to which the output is durable.
    pub(in crate::daemon) output_offset: u64,
    /// Reason why the agent must reconnect and resend everything that is not durable.
    pub(in crate::daemon) reconnect_reason: Option<String>,
}

/// Map in which a connection receives its receipts.
pub(in crate::daemon) type Receipts = LatestMap<JobId, Receipt>;

pub(in crate::daemon) enum WriterCommand {
    /// Open a job that was found in the registry: log the first event of a new job, or repair an old job's record.
    OpenJob(JobId),
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
    /// Record an event of the relay itself.
    RecordRelayEvent { job: JobId, body: Box<EventBody> },
    /// Remove the job's environment values from its spec: the agent has them.
    RemoveEnvValues(JobId),
    /// Change the time limit in the spec of a job that no agent has yet.
    WriteSpecLimit { job: JobId, job_ms: u64 },
    /// Write the commit that a job starts from into the job's spec. No agent has the job yet.
    WriteSpecBase { job: JobId, commit: String },
    /// Assign a job to an agent before the job is sent. From now on that agent may send the job's events.
    AssignOffer { job: JobId, agent: AgentId },
    /// Report the durable state of these jobs to a connection after its hello. From now on nothing is accepted from
    /// older connections of the same agent. If no answer arrives, the connection must end.
    QueryDurable { connection_id: ConnectionId, jobs: Vec<JobProgress>, reply: oneshot::Sender<Vec<Durable>> },
    /// Check that a connection may send data of a run, and that the run is running. Answer with the job's record, or with
    /// the reason if it may not.
    CheckRun {
        connection_id: ConnectionId,
        job: JobId,
        epoch: u32,
        reply: oneshot::Sender<Result<Box<JobRecord>, String>>,
    },
    /// Remove a connection that has ended.
    RemoveConnection(ConnectionId),
    /// Reply once everything that was sent before this command is on disk, including records.
    Flush(oneshot::Sender<()>),
}

/// Sender of commands to the writer.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct WriterHandle {
    pub(super) commands: mpsc::Sender<WriterCommand>,
}

impl WriterHandle {
    /// Creates a handle whose commands go into this queue.
    #[cfg(test)]
    pub(in crate::daemon) fn new(commands: mpsc::Sender<WriterCommand>) -> Self {
        Self { commands }
    }

    /// Sends a command; waits while the queue is full.
    pub(in crate::daemon) async fn send(&self, command: WriterCommand) {
        // The writer ends only with the process, so a lost command has no effect.
        let _ = self.commands.send(command).await;
    }
}

/// Newest records of changed jobs, for the core.
pub(in crate::daemon) type Changes = LatestMap<JobId, JobRecord>;
