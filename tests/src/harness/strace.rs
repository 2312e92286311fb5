//! Fault injection: a process whose system calls fail on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::until;

/// Maximum time for `strace` to detach.
const DETACH_TIMEOUT: Duration = Duration::from_secs(2);

/// A running `strace` that is attached to a process; dropping this value detaches it.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    trace: PathBuf,
}

impl Strace {
    /// Attaches to a process and all of its threads. `options` select the calls to trace and the calls that fail;
    /// `trace` is the file that gets one line per call.
    pub fn attach(pid: u32, options: &[String], trace: &Path) -> Self {
        let messages = trace.with_extension("said");
        let stderr = fs::File::create(&messages).unwrap_or_else(|e| panic!("{}: {e}", messages.display()));
        let child = Command::new("strace")
            .args(["-f", "-y", "-p", &pid.to_string(), "-o"])
            .arg(trace)
            .args(options)
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn();
        let child = child.unwrap_or_else(|e| panic!("strace: {e}"));
        let strace = Self { child, trace: trace.to_owned() };
        until("strace is attached", || {
            let messages = fs::read_to_string(&messages).unwrap_or_default();
            messages.contains("attached").then_some(())
        });
        strace
    }

    /// Returns the traced calls so far, one line each.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.trace).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(ToOwned::to_owned).collect()
    }

    /// Returns the number of calls that were made to fail.
    pub fn injected(&self) -> usize {
        self.lines().iter().filter(|line| line.contains("(INJECTED)")).count()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // An interrupt lets `strace` detach from the traced process; a kill would not.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        // `strace` can wait forever for a thread of a process that was killed while traced.
        let deadline = Instant::now() + DETACH_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
