//! Fault injection: a process whose system calls fail on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::until;

/// Maximum time for `strace` to detach.
const LET_GO: Duration = Duration::from_secs(2);

/// `strace` attached to a process; it detaches when this is dropped.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    trace: PathBuf,
}

impl Strace {
    /// Attaches to a process and all of its threads. `options` select the calls to trace and the calls that fail;
    /// `trace` is the file that gets one line per call.
    pub fn attach(pid: u32, options: &[String], trace: &Path) -> Self {
        let said = trace.with_extension("said");
        let stderr = fs::File::create(&said).unwrap_or_else(|e| panic!("{}: {e}", said.display()));
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
            let said = fs::read_to_string(&said).unwrap_or_default();
            said.contains("attached").then_some(())
        });
        strace
    }

    /// Returns the calls traced so far.
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
        // Interrupted, not killed: `strace` must detach from the traced process.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        // `strace` can wait forever for a thread of a process that was killed while traced.
        let deadline = Instant::now() + LET_GO;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
