//! A command of the job while it runs, and the reasons to end it early.

use std::sync::Arc;
use std::time::Duration;

use common::event::JobError;

use super::masked_output::MaskedOutput;
use super::output_handler::OutputHandler;
use super::stage::Stage;
use crate::observe::Snapshot;
use crate::oom::OomWatch;
use crate::process::{Exit, Process};

/// Reason that the job is being ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Cancelled on request.
    Cancelled,
    /// The agent has to stop.
    Stopped,
    /// A limit was reached.
    Failed(JobError),
}

/// A command of the job, while it runs.
pub(super) struct RunningCommand {
    pub(super) stage: Stage,
    pub(super) process: Process,
    pub(super) handler: OutputHandler,
    /// Masker that all output of the command goes through.
    pub(super) masked: MaskedOutput,
    pub(super) oom: OomWatch,
    /// Process id of its leader, once it runs.
    pub(super) leader: Option<u32>,
    pub(super) exit: Option<Exit>,
    pub(super) spawn_failed: Option<String>,
    /// Time at which it was handed to its shim, in the job's own time.
    pub(super) started: Duration,
    /// Time after which its shim is given up; set once it was asked to end, or has ended.
    pub(super) shim_deadline: Option<Duration>,
    /// Last snapshot of its processes.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// True if it was ended because it did not exit after its turn.
    pub(super) lingered: bool,
}

impl RunningCommand {
    /// Creates the state of a command that was handed to its shim.
    pub(super) fn new(
        stage: Stage,
        process: Process,
        worker: OutputHandler,
        oom: OomWatch,
        masked: MaskedOutput,
        begun: Duration,
    ) -> Self {
        Self {
            stage,
            process,
            handler: worker,
            masked,
            oom,
            leader: None,
            exit: None,
            spawn_failed: None,
            started: begun,
            shim_deadline: None,
            snapshot: None,
            lingered: false,
        }
    }

    /// Gives up its shim after `time`, unless an earlier time is set.
    pub(super) fn limit_shim(&mut self, time: Duration) {
        self.shim_deadline = Some(self.shim_deadline.map_or(time, |old| old.min(time)));
    }

    /// Returns the numbers and start times of its processes in the last snapshot.
    pub(super) fn processes(&self) -> Vec<(u32, u64)> {
        let (Some(seen), Some(leader)) = (&self.snapshot, self.leader) else { return Vec::new() };
        seen.subtree(leader).iter().map(|process| (process.pid, process.started)).collect()
    }

    /// Returns true if it was asked to end, or its leader has exited and only output is waited for.
    pub(super) fn is_ending(&self) -> bool {
        self.shim_deadline.is_some() || self.exit.is_some()
    }
}
