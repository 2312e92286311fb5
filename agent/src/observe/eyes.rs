//! With whose rights processes are looked at.
//!
//! Root in a container is mostly without `CAP_SYS_PTRACE`, and then may see less of a worker's processes than the
//! worker itself: no bytes, no environment, no descriptors. So a looking thread takes on the worker's *effective* ids.
//! Its real and saved ids stay root's, therefore the worker can neither signal nor trace it.

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{CapabilitySet, capabilities, set_thread_res_gid, set_thread_res_uid};

use crate::shim::protocol::Ids;

/// The rights of a looking thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Eyes(pub(super) Option<Ids>);

impl Eyes {
    /// Takes the rights on, for this thread and for good, where that shows more. Where it is not possible, less is
    /// seen.
    pub(super) fn open(self) {
        if let Some(ids) = self.0.filter(|_| blind()) {
            // The group first: only root may change it.
            let _ = set_thread_res_gid(None, Gid::from_raw(ids.gid), None);
            let _ = set_thread_res_uid(None, Uid::from_raw(ids.uid), None);
        }
    }

    /// Looks with these rights, and leaves those of the calling thread alone.
    pub(super) fn look<T: Send>(self, look: impl FnOnce() -> Option<T> + Send) -> Option<T> {
        if self.0.is_none() || !blind() {
            return look();
        }
        let opened = move || {
            self.open();
            look()
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new().spawn_scoped(scope, opened).ok()?.join().ok().flatten()
        })
    }
}

/// Whether this thread is root's and yet may not look into other users' processes.
fn blind() -> bool {
    let may = |sets: rustix::thread::CapabilitySets| sets.effective.contains(CapabilitySet::SYS_PTRACE);
    geteuid().is_root() && !capabilities(None).is_ok_and(may)
}
