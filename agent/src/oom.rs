//! Processes that the kernel kills for lack of memory.

use crate::cgroup::{Controller, ControllerFiles};

const MEMORY: ControllerFiles = ControllerFiles {
    name: "memory",
    version_1: ["memory.oom_control", "memory.limit_in_bytes"],
    version_2: ["memory.events", "memory.max"],
    counter: "oom_kill",
};

/// Watches for processes that the kernel kills for lack of memory while a command runs.
#[derive(Debug)]
pub(crate) struct OomWatch {
    controller: Option<Controller>,
    initial_kill_count: u64,
    is_only_job: bool,
}

/// Kill of a process by the kernel for lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OomKill {
    /// Memory limit in bytes; `None` if the machine itself ran out of memory.
    pub(crate) memory_limit: Option<u64>,
    /// True if the memory limit is that of a single job.
    pub(crate) is_only_job: bool,
}

impl OomWatch {
    /// Starts to watch. `is_only_job` is true if the agent runs no other job.
    pub(crate) fn start(is_only_job: bool) -> Self {
        let controller = Controller::of_this_process(&MEMORY);
        let initial_kill_count = controller.as_ref().map_or(0, Controller::count);
        Self { controller, initial_kill_count, is_only_job }
    }

    /// Returns a kill if the kernel has killed a process for lack of memory since [`start`](Self::start).
    pub(crate) fn oom_kill(&self) -> Option<OomKill> {
        let memory = self.controller.as_ref().filter(|memory| memory.count() > self.initial_kill_count)?;
        Some(OomKill { memory_limit: memory.limit(), is_only_job: self.is_only_job })
    }
}
