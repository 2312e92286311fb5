//! Credentials for inspecting processes.
//!
//! Root in a container mostly lacks `CAP_SYS_PTRACE`, and then may see less of a worker's processes than the worker
//! itself: no bytes, no environment, no descriptors. So an inspecting thread takes on the worker's *effective* ids.
//! Its real and saved ids stay root's, so the worker can neither signal nor trace it.

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{CapabilitySet, capabilities, set_thread_res_gid, set_thread_res_uid};

use crate::user::Ids;

/// Credentials of an inspecting thread; `None` for those of the agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct InspectorIds(pub(super) Option<Ids>);

impl InspectorIds {
    /// Takes on these credentials, for this thread and for good, if that reveals more. If that fails, less is
    /// visible.
    pub(super) fn adopt(self) {
        if let Some(ids) = self.0.filter(|_| lacks_ptrace()) {
            // The group first: only root may change it.
            let _ = set_thread_res_gid(None, Gid::from_raw(ids.gid), None);
            let _ = set_thread_res_uid(None, Uid::from_raw(ids.uid), None);
        }
    }

    /// Calls `look` with these credentials, and leaves those of the calling thread alone.
    pub(super) fn run_as<T: Send>(self, look: impl FnOnce() -> Option<T> + Send) -> Option<T> {
        if self.0.is_none() || !lacks_ptrace() {
            return look();
        }
        let opened = move || {
            self.adopt();
            look()
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new().spawn_scoped(scope, opened).ok()?.join().ok().flatten()
        })
    }
}

/// Returns true if this thread is root's and yet may not inspect other users' processes.
fn lacks_ptrace() -> bool {
    let may = |sets: rustix::thread::CapabilitySets| sets.effective.contains(CapabilitySet::SYS_PTRACE);
    geteuid().is_root() && !capabilities(None).is_ok_and(may)
}
