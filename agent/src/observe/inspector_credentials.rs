//! Credentials for inspecting processes.
//!
//! Root in a container usually lacks `CAP_SYS_PTRACE`. Then it can't read the I/O counters, environment and descriptors
//! of a worker, but the worker's user can. So an inspecting thread takes the *effective* ids of that user. Its real and
//! saved ids stay those of root, so the worker can neither signal nor trace it.

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{CapabilitySet, capabilities, set_thread_res_gid, set_thread_res_uid};

use crate::user::UserIds;

/// Credentials of an inspecting thread; `None` for the agent's own credentials.
#[derive(Debug, Clone, Copy)]
pub(super) struct InspectorIds(pub(super) Option<UserIds>);

impl InspectorIds {
    /// Switches this thread to these credentials permanently, if the thread can then read more. If the switch fails,
    /// the thread can only read less.
    pub(super) fn adopt(self) {
        if let Some(ids) = self.0.filter(|_| lacks_ptrace()) {
            // The group is changed first, because only root may do so.
            let _ = set_thread_res_gid(None, Gid::from_raw(ids.gid), None);
            let _ = set_thread_res_uid(None, Uid::from_raw(ids.uid), None);
        }
    }

    /// Calls `inspect` with these credentials in another thread. The calling thread keeps its own.
    pub(super) fn run_as<T: Send>(self, inspect: impl FnOnce() -> Option<T> + Send) -> Option<T> {
        if self.0.is_none() || !lacks_ptrace() {
            return inspect();
        }
        let inspection = move || {
            self.adopt();
            inspect()
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new().spawn_scoped(scope, inspection).ok()?.join().ok().flatten()
        })
    }
}

/// Returns true if this thread is root but may not inspect the processes of other users.
fn lacks_ptrace() -> bool {
    let has_ptrace =
        |sets: rustix::thread::CapabilitySets| sets.effective.contains(CapabilitySet::SYS_PTRACE);
    geteuid().is_root() && !capabilities(None).is_ok_and(has_ptrace)
}
