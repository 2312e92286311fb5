//! Processes that the kernel refuses to start because the container has as many as it may have.

use crate::cgroup::{Controller, ControllerFiles};

const PIDS: ControllerFiles = ControllerFiles {
    name: "pids",
    version_1: ["pids.events", "pids.max"],
    version_2: ["pids.events", "pids.max"],
    counter: "max",
};

/// Watches for refused processes while a command runs.
#[derive(Debug)]
pub(crate) struct ProcessLimitWatch {
    /// Controller of the container of a single job. In a shared one, the processes may be those of another job.
    controller: Option<Controller>,
    initial_count: u64,
}

impl ProcessLimitWatch {
    /// Starts to watch. `is_only_job` is true if the agent runs no other job.
    pub(crate) fn start(is_only_job: bool) -> Self {
        let controller = is_only_job.then(|| Controller::of_this_process(&PIDS)).flatten();
        let initial_count = controller.as_ref().map_or(0, Controller::count);
        Self { controller, initial_count }
    }

    /// Returns the limit if the kernel has refused a process since [`start`](Self::start).
    pub(crate) fn reached_limit(&self) -> Option<u64> {
        self.controller.as_ref().filter(|pids| pids.count() > self.initial_count)?.limit()
    }
}
