//! Limit of the file descriptors (open files and connections) of this process.
//!
//! Most systems allow 1,024 by default and far more on request. A relay needs three descriptors per agent. Processes
//! that the relay starts get the original limit, because old programs can't handle descriptors beyond 1,024.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// Number of descriptors that relay asks for. Enough for three thousand agents with a job each, and the most that macOS
/// grants.
const WANTED_LIMIT: u64 = 10 * 1024;

/// Limit of descriptors that the relay was started with.
#[derive(Debug, Clone, Copy)]
pub struct InheritedLimit(Rlimit);

/// Raises the limit of this process. If the system refuses, fewer agents can connect.
pub fn raise_limit() -> InheritedLimit {
    let inherited = getrlimit(Resource::Nofile);
    let allowed = inherited.maximum.unwrap_or(WANTED_LIMIT);
    if inherited.current.is_some_and(|current| current < WANTED_LIMIT.min(allowed)) {
        let raised = Rlimit { current: Some(WANTED_LIMIT.min(allowed)), maximum: inherited.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
    InheritedLimit(inherited)
}

impl InheritedLimit {
    /// Sets the limit of a process to the one that the relay was started with.
    #[cfg(target_os = "linux")]
    pub fn restore(&self, pid: Pid) {
        // Errors are ignored: the process may have ended, and it also works with the higher limit.
        let _ = rustix::process::prlimit(Some(pid), Resource::Nofile, self.0);
    }

    /// Does nothing: only Linux can set the limit of another process.
    #[cfg(not(target_os = "linux"))]
    pub fn restore(&self, _pid: Pid) {}
}
