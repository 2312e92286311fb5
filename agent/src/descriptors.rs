//! Keeps descriptors that were inherited by mistake from being inherited further.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// Marks every descriptor above stderr close-on-exec. Whoever started the agent may have left some open without the
/// mark; a worker must see nothing but its own 0, 1 and 2.
///
/// Call it before any thread or descriptor of our own exists.
pub(crate) fn close_on_exec() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for raw in open.into_iter().filter(|raw| *raw > 2) {
        mark(raw);
    }
}

#[expect(
    unsafe_code,
    reason = "an inherited descriptor has no owner in Rust, so it can only be named by its number"
)]
fn mark(raw: RawFd) {
    // SAFETY: the borrow lives for one fcntl; on a number that is no longer open it fails with EBADF.
    let fd = unsafe { BorrowedFd::borrow_raw(raw) };
    // Closed in between: nothing left to mark.
    let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
}
