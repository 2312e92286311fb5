//! How many files and connections this process may have open.
//!
//! Most systems allow 1,024 at first and far more to whoever asks: a relay with a thousand agents needs three for each.
//! What the relay starts gets back what the relay was started with, since old programs can't count beyond 1,024.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// Enough for three thousand agents with a job each, and the most that macOS gives.
const WANTED: u64 = 10 * 1024;

/// The limit that the relay was started with.
#[derive(Debug, Clone, Copy)]
pub struct Inherited(Rlimit);

/// Asks for more. Where that is refused, fewer agents can connect.
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
    pub fn give(&self, pid: Pid) {
        // It may have ended; it runs as well with the other limit.
        let _ = rustix::process::prlimit(Some(pid), Resource::Nofile, self.0);
    }

    /// Gives a process the limit that the relay was started with: only Linux can.
    #[cfg(not(target_os = "linux"))]
    pub fn give(&self, _pid: Pid) {}
}
