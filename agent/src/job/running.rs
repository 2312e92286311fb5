//! A command of the job while it runs, and why it may have to end before its time.

use std::sync::Arc;
use std::time::Duration;

use common::event::JobError;

use super::masked::Masked;
use super::stage::Stage;
use super::worker::Worker;
use crate::memory::MemoryWatch;
use crate::observe::Snapshot;
use crate::process::{Exit, Process};

/// Why the job is being ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Somebody asked.
    Cancelled,
    /// The agent is told to stop.
    Stopped,
    /// A limit was reached.
    Failed(JobError),
}

/// A command of the job, while it runs.
pub(super) struct Running {
    pub(super) stage: Stage,
    pub(super) process: Process,
    pub(super) worker: Worker,
    /// Its output goes through it.
    pub(super) masked: Masked,
    pub(super) memory: MemoryWatch,
    /// Its first process, once it runs.
    pub(super) leader: Option<u32>,
    pub(super) exit: Option<Exit>,
    pub(super) spawn_failed: Option<String>,
    /// When it was handed to its shim, in the job's own time.
    pub(super) begun: Duration,
    /// It was asked to end, or has; after this time its shim is given up.
    pub(super) give_up: Option<Duration>,
    /// The last look at its processes.
    pub(super) seen: Option<Arc<Snapshot>>,
    /// It was ended because it did not exit after its turn.
    pub(super) lingered: bool,
}

impl Running {
    /// A command that was handed to its shim.
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

    /// After `time` its shim is given up, unless that was to be before.
    pub(super) fn give_up_at(&mut self, time: Duration) {
        self.give_up = Some(self.give_up.map_or(time, |old| old.min(time)));
    }

    /// Numbers and starts of its processes at the last look.
    pub(super) fn processes(&self) -> Vec<(u32, u64)> {
        let (Some(seen), Some(leader)) = (&self.seen, self.leader) else { return Vec::new() };
        seen.subtree(leader).iter().map(|process| (process.pid, process.started)).collect()
    }

    /// Whether it was asked to end, or its leader has exited and only output is waited for.
    pub(super) fn ends(&self) -> bool {
        self.give_up.is_some() || self.exit.is_some()
    }
}
