//! Process attributes that are inherited: a program that starts relay may block or ignore signals, and leave
//! descriptors open that other processes wait for.

#![expect(
    unsafe_code,
    reason = "signal masks, signal dispositions and inherited descriptors have no safe interface"
)]

use std::os::fd::{BorrowedFd, RawFd};
use std::path::Path;
use std::{io, mem, ptr};

use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_setfd};

/// Numbers of the standard signals, the same on Linux and macOS.
const SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=31;

/// Unblocks every signal and restores the default for `SIGCHLD`. Each command calls this before it has threads. While
/// `SIGCHLD` is ignored, no child can be waited for.
pub fn reset_signals() {
    set_default_action(libc::SIGCHLD);
    // SAFETY: the set is filled by `sigemptyset` before it is read.
    unsafe {
        let mut empty_set = mem::zeroed();
        libc::sigemptyset(&raw mut empty_set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const empty_set, ptr::null_mut());
    }
}

/// Prepares the daemon: default signals, umask and working directory. `SIGHUP` stays as `nohup` sets it, and `SIGPIPE`
/// as Rust sets it.
pub fn prepare_daemon(root: &Path) -> io::Result<()> {
    let unchanged = [libc::SIGKILL, libc::SIGSTOP, libc::SIGPIPE, libc::SIGHUP];
    SIGNALS.filter(|signal| !unchanged.contains(signal)).for_each(set_default_action);
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    mark_descriptors_close_on_exec();
    std::env::set_current_dir(root)
}

fn set_default_action(signal: libc::c_int) {
    // SAFETY: the default disposition runs no code of this program. For an unknown signal the call fails and changes
    // nothing.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Marks every descriptor above stderr close-on-exec: a lock or a pipe of the caller must not stay open in a daemon.
#[expect(clippy::disallowed_methods, reason = "the system's list of this process's descriptors")]
pub fn mark_descriptors_close_on_exec() {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return };
    let descriptors: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for raw in descriptors.into_iter().filter(|raw| *raw > 2) {
        // SAFETY: the borrow lives for one fcntl; on a number that is no longer open it fails with EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
        // The descriptor may have been closed meanwhile.
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}
