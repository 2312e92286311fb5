//! Real processes for the tests of this module.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::scan::Scanner;
use super::snapshot::Process;

/// Maximum time to wait for a condition: longer than any of them takes on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// A running command. Dropping this value kills the command and everything below it.
pub(super) struct TestProcess(Child);

impl TestProcess {
    pub(super) fn new(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.process_group(0).spawn().unwrap())
    }

    pub(super) fn shell(line: &str) -> Self {
        Self::new(Command::new("sh").args(["-c", line]))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Continues a `read` in the command.
    pub(super) fn resume(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        let mut scanner = Scanner::new(std::process::id()).unwrap();
        for process in scanner.scan(&[]).subtree(self.pid()) {
            let pid = Pid::from_raw(process.pid.cast_signed()).unwrap();
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Calls `check` repeatedly until it returns a value.
pub(super) fn wait_until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(begun.elapsed() < WAIT_TIMEOUT, "waited in vain: {what}");
        crate::shim::pause(Duration::from_millis(5));
    }
}

/// Scans until `is_wanted` accepts the process `pid`, and returns that process. TCP bytes are counted only for the
/// processes in `watched` and their descendants.
pub(super) fn scan_until(
    scanner: &mut Scanner,
    watched: &[u32],
    pid: u32,
    is_wanted: impl Fn(&Process) -> bool,
) -> Process {
    let mut last = None;
    wait_until(&format!("process {pid}"), || {
        last = scanner.scan(watched).process(pid).cloned();
        last.clone().filter(&is_wanted)
    })
}
