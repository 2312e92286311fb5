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
    pub(in crate::daemon) output_offset: u64,
    /// Reason why the agent must reconnect and resend everything that is not durable.
    pub(in crate::daemon) reconnect_reason: Option<String>,
}

/// Map in which a connection receives its receipts.
pub(in crate::daemon) type Receipts = LatestMap<JobId, Receipt>;

pub(in crate::daemon) enum WriterCommand {
    /// Open a job that was found in the registry: log the first event of a new one, and repair the record of an old one.
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
    /// Write the commit that a job starts from into its spec. No agent has the job yet.
    WriteSpecBase { job: JobId, commit: String },
    /// Assign a job to an agent before it is sent. From now on that agent may send its events.
    AssignOffer { job: JobId, agent: AgentId },
    /// Report the durable state of these jobs to a connection after its hello. From now on nothing is accepted from
    /// older connections. Without an answer the connection must end.
    QueryDurable { connection_id: ConnectionId, jobs: Vec<JobProgress>, reply: oneshot::Sender<Vec<Durable>> },
    /// Check that this connection may send data of a run, and that the run is the running one. The answer is one line
    /// if it may not.
    CheckRun {
        connection_id: ConnectionId,
        job: JobId,
        epoch: u32,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Remove a connection that has ended.
    RemoveConnection(ConnectionId),
    /// Reply once everything sent before, including records, is on disk.
    Flush(oneshot::Sender<()>),
}

/// Sender of commands to the writer.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct WriterHandle {
    pub(super) commands: mpsc::Sender<WriterCommand>,
}

impl WriterHandle {
    /// Sends a command; waits while the queue is full.
    pub(in crate::daemon) async fn send(&self, command: WriterCommand) {
        // The writer ends only with the process, so a lost command has no effect.
        let _ = self.commands.send(command).await;
    }
}

/// Newest records of changed jobs, for the core.
pub(in crate::daemon) type Changes = LatestMap<JobId, JobRecord>;
