//! State of a job's command while it runs, and the reasons to end the job early.

use std::sync::Arc;
use std::time::Duration;

use common::event::JobError;

use super::check_output_digest::OutputDigest;
use super::masked_output::MaskedOutput;
use super::output_handler::OutputHandler;
use super::stage::Stage;
use crate::observe::Snapshot;
use crate::oom::OomWatch;
use crate::process::{Exit, Process};
use crate::process_limit::ProcessLimitWatch;

/// Reason why the job is being ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndReason {
    Cancelled,
    /// The agent has to stop.
    Stopped,
    /// A limit was reached.
    Failed(JobError),
}

/// Watches of the limits of the agent's container while a command runs.
pub(super) struct ContainerWatch {
    pub(super) oom: OomWatch,
    pub(super) processes: ProcessLimitWatch,
}

impl ContainerWatch {
    /// Starts to watch. `is_only_job` is true if the agent runs no other job.
    pub(super) fn start(is_only_job: bool) -> Self {
        Self { oom: OomWatch::start(is_only_job), processes: ProcessLimitWatch::start(is_only_job) }
    }
}

/// State of a running command of the job.
pub(super) struct RunningCommand {
    pub(super) stage: Stage,
    pub(super) process: Process,
    pub(super) handler: OutputHandler,
    /// Masker that all output of the command goes through.
    pub(super) masked_output: MaskedOutput,
    /// Digest of the masked output of a check.
    pub(super) check_output_digest: OutputDigest,
    pub(super) container_watch: ContainerWatch,
    /// Process id of the command's leader, once it runs.
    pub(super) leader_pid: Option<u32>,
    pub(super) exit: Option<Exit>,
    pub(super) spawn_error: Option<String>,
    /// Work time at which the command was passed to its shim.
    pub(super) spawn_requested_at: Duration,
    /// Time at which the shim counts as lost; set once the command was asked to end, or has ended.
    pub(super) shim_deadline: Option<Duration>,
    /// Last snapshot of the command's processes.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// True if the agent ended Codex because it did not exit after its turn.
    pub(super) was_ended_after_turn: bool,
}

impl RunningCommand {
    /// Creates the state of a command that was passed to its shim.
    pub(super) fn new(
        stage: Stage,
        process: Process,
        handler: OutputHandler,
        container_watch: ContainerWatch,
        masked_output: MaskedOutput,
        spawn_requested_at: Duration,
    ) -> Self {
        Self {
            stage,
            process,
            handler,
            masked_output,
            check_output_digest: OutputDigest::default(),
            container_watch,
            leader_pid: None,
            exit: None,
            spawn_error: None,
            spawn_requested_at,
            shim_deadline: None,
            snapshot: None,
            was_ended_after_turn: false,
        }
    }

    /// Sets the time at which the shim counts as lost, unless an earlier one is set.
    pub(super) fn set_shim_deadline(&mut self, deadline: Duration) {
        self.shim_deadline = Some(self.shim_deadline.map_or(deadline, |old| old.min(deadline)));
    }

    /// Returns the ids and start times of the command's processes in the last snapshot.
    pub(super) fn processes(&self) -> Vec<(u32, u64)> {
        let (Some(snapshot), Some(leader)) = (&self.snapshot, self.leader_pid) else { return Vec::new() };
        snapshot.subtree(leader).iter().map(|process| (process.pid, process.start_ticks)).collect()
    }

    /// Returns true if the command was asked to end, or if its leader has exited and only output is still read.
    pub(super) fn is_ending(&self) -> bool {
        self.shim_deadline.is_some() || self.exit.is_some()
    }
}
