//! Limit of open files and connections of this process.
//!
//! Most systems allow 1,024 at first and far more on request: a relay with a thousand agents needs three for each.
//! Processes that the relay starts get back the relay's original limit, since old programs can't handle descriptors
//! beyond 1,024.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// Requested limit. Enough for three thousand agents with a job each, and the most that macOS grants.
const WANTED: u64 = 10 * 1024;

/// The limit that the relay was started with.
#[derive(Debug, Clone, Copy)]
pub struct Inherited(Rlimit);

/// Raises the limit. If that is refused, fewer agents can connect.
pub fn raise() -> Inherited {
    let inherited = getrlimit(Resource::Nofile);
    let most = inherited.maximum.unwrap_or(WANTED);
    if inherited.current.is_some_and(|current| current < WANTED.min(most)) {
        let raised = Rlimit { current: Some(WANTED.min(most)), maximum: inherited.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
    Inherited(inherited)
}

impl Inherited {
    /// Gives a process the limit that the relay was started with.
    #[cfg(target_os = "linux")]
    pub fn restore(&self, pid: Pid) {
        // The process may have ended; it also runs with the other limit.
        let _ = rustix::process::prlimit(Some(pid), Resource::Nofile, self.0);
    }

    /// Does nothing: only Linux can set the limit of another process.
    #[cfg(not(target_os = "linux"))]
    pub fn restore(&self, _pid: Pid) {}
}
