//! A command of the job while it runs, and why it may have to end before its time.

use common::event::JobError;
use tokio::time::Instant;

use super::masked::Masked;
use super::stage::Stage;
use super::worker::Worker;
use crate::memory::MemoryWatch;
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
    /// It was asked to end; after this time its shim is given up.
    pub(super) give_up: Option<Instant>,
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
            give_up: None,
            lingered: false,
        }
    }

    /// Whether it was asked to end, or its leader has exited and only output is waited for.
    pub(super) fn ends(&self) -> bool {
        self.give_up.is_some() || self.exit.is_some()
    }
}
