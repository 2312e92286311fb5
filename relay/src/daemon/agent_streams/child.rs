//! Process of git that serves fetches from a job's repository, or pushes to it.

use std::process::{self, Stdio};
use std::time::Duration;

use common::text_format::one_line;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Time between SIGTERM and SIGKILL, in which git removes its temporary files.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// Number of bytes of git's error output that are kept.
const MAX_ERRORS: u64 = 8 * 1024;

/// A running process of git. Dropping this value ends the process and its children.
pub(super) struct GitChild {
    child: Option<Child>,
}

/// Error output of git.
pub(super) struct ErrorOutput(ChildStderr);

impl ErrorOutput {
    /// Reads the error output to its end; returns its first [`MAX_ERRORS`] bytes.
    pub(super) async fn read_to_end(mut self) -> String {
        let mut bytes = Vec::new();
        // Git's exit status shows a failure even if the reason can't be read.
        let _ = (&mut self.0).take(MAX_ERRORS).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut self.0, &mut tokio::io::sink()).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl GitChild {
    /// Starts git as a service on a repository: `git upload-pack` or `git receive-pack`.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn start(service: process::Command) -> Result<Self, String> {
        let mut command = Command::from(service);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().map_err(|e| format!("git could not be started at the relay: {e}"))?;
        Ok(Self { child: Some(child) })
    }

    /// Takes the process's stdin, stdout and stderr.
    pub(super) fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout, ErrorOutput)> {
        let child = self.child.as_mut()?;
        Some((child.stdin.take()?, child.stdout.take()?, ErrorOutput(child.stderr.take()?)))
    }

    /// Waits for the process to exit.
    ///
    /// # Errors
    /// The last line of git's error output, or the exit status.
    pub(super) async fn wait(&mut self, errors: &str) -> Result<(), String> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let status = child.wait().await.map_err(|e| e.to_string())?;
        self.child = None;
        if status.success() {
            return Ok(());
        }
        let line = errors.lines().map(str::trim).rfind(|line| !line.is_empty());
        let line = line.map_or_else(|| status.to_string(), |line| one_line(line, 300));
        Err(format!("git at the relay failed: {line}"))
    }
}

impl Drop for GitChild {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let Some(group) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) else {
            return;
        };
        // Git removes its temporary files on SIGTERM. If the signal can't be sent, the process group has ended.
        let _ = kill_process_group(group, Signal::TERM);
        // Without a runtime the daemon is ending, and SIGTERM has to suffice.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if timeout(TERM_GRACE, child.wait()).await.is_err() {
                    let _ = kill_process_group(group, Signal::KILL);
                    let _ = child.wait().await;
                }
            });
        }
    }
}
