//! A command of the job while it runs, and the reasons to end it early.

use std::sync::Arc;
use std::time::Duration;

use common::event::JobError;

use super::masked_output::Masked;
use super::output_handler::Worker;
use super::stage::Stage;
use crate::observe::Snapshot;
use crate::oom::MemoryWatch;
use crate::process::{Exit, Process};

/// Reason that the job is being ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Cancelled on request.
    Cancelled,
    /// The agent has to stop.
    Stopped,
    /// A limit was reached.
    Failed(JobError),
}

/// A command of the job, while it runs.
pub(super) struct Running {
    pub(super) stage: Stage,
    pub(super) process: Process,
    pub(super) worker: Worker,
    /// Masker that all output of the command goes through.
    pub(super) masked: Masked,
    pub(super) memory: MemoryWatch,
    /// Process id of its leader, once it runs.
    pub(super) leader: Option<u32>,
    pub(super) exit: Option<Exit>,
    pub(super) spawn_failed: Option<String>,
    /// Time at which it was handed to its shim, in the job's own time.
    pub(super) begun: Duration,
    /// Time after which its shim is given up; set once it was asked to end, or has ended.
    pub(super) give_up: Option<Duration>,
    /// Last snapshot of its processes.
    pub(super) seen: Option<Arc<Snapshot>>,
    /// True if it was ended because it did not exit after its turn.
    pub(super) lingered: bool,
}

impl Running {
    /// Creates the state of a command that was handed to its shim.
    pub(super) fn new(
        stage: Stage,
        process: Process,
        worker: Worker,
        memory: MemoryWatch,
        masked: Masked,
        begun: Duration,
    ) -> Self {
        Self {
            stage,
            process,
            worker,
            masked,
            memory,
            leader: None,
            exit: None,
            spawn_failed: None,
            begun,
            give_up: None,
            seen: None,
            lingered: false,
        }
    }

    /// Gives up its shim after `time`, unless an earlier time is set.
    pub(super) fn give_up_at(&mut self, time: Duration) {
        self.give_up = Some(self.give_up.map_or(time, |old| old.min(time)));
    }

    /// Returns the numbers and start times of its processes in the last snapshot.
    pub(super) fn processes(&self) -> Vec<(u32, u64)> {
        let (Some(seen), Some(leader)) = (&self.seen, self.leader) else { return Vec::new() };
        seen.subtree(leader).iter().map(|process| (process.pid, process.started)).collect()
    }

    /// Returns true if it was asked to end, or its leader has exited and only output is waited for.
    pub(super) fn ends(&self) -> bool {
        self.give_up.is_some() || self.exit.is_some()
    }
}
