//! Reset of inherited process state. The parent of the agent may have blocked or ignored signals, set a umask, and left
//! descriptors open.

#![expect(
    unsafe_code,
    reason = "signal masks, signal dispositions and inherited descriptors have no safe interface"
)]

use std::os::fd::{BorrowedFd, RawFd};
use std::{mem, ptr};

use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_setfd};

/// Numbers of the standard signals.
const SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=31;

/// Resets signals, umask and descriptors of this process; its children inherit the result. `SIGPIPE` stays ignored, as
/// Rust has set it, and is reset in each child.
///
/// Must be called before this process starts threads or opens descriptors. If `SIGCHLD` stayed ignored, the agent could
/// not wait for its children; if `SIGTERM` stayed blocked, TERM could not stop a process.
pub(crate) fn reset() {
    for signal in SIGNALS.filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGPIPE].contains(signal)) {
        // SAFETY: the default disposition runs no code of this program. For an unknown signal the call fails and
        // changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is filled by `sigemptyset` before it is read.
    unsafe {
        let mut empty_set = mem::zeroed();
        libc::sigemptyset(&raw mut empty_set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const empty_set, ptr::null_mut());
    }
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    close_on_exec();
}

/// Marks every descriptor above stderr close-on-exec: a worker inherits only stdin, stdout and stderr.
fn close_on_exec() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open_fds: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for raw in open_fds.into_iter().filter(|raw| *raw > 2) {
        // SAFETY: the borrow lives for one fcntl; on a number that is no longer open it fails with EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
        // If the descriptor was closed in the meantime, there is nothing to mark.
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}
