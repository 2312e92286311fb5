//! Process of git that serves a job's repository.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::stream::GitService;
use common::text_format::one_line;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Maximum size of a pushed result, in bytes.
const MAX_RESULT: u64 = 2 << 30;
/// Time for git to remove its temporary files after TERM.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// Maximum length of git's error output that is kept, in bytes.
const MAX_ERRORS: u64 = 8 * 1024;

/// Settings of every git: nothing that a repository or a user configures is started.
const SETTINGS: [&str; 7] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    // Only the base is told to be here already, not the caller's branches.
    "core.alternateRefsCommand=git for-each-ref --format='%(objectname)' refs/heads/base #",
];
/// Settings for sending the base.
const FETCH_SETTINGS: [&str; 2] = ["uploadpack.hideRefs=refs", "uploadpack.hideRefs=!refs/heads/base"];
/// Settings for taking the result.
const PUSH_SETTINGS: [&str; 6] = [
    "receive.hideRefs=refs",
    "receive.hideRefs=!refs/heads/result",
    "receive.fsckObjects=true",
    "receive.denyDeletes=true",
    "receive.denyNonFastForwards=false",
    "receive.autogc=false",
];

/// A running git. Dropping this value ends the process and its children.
pub(super) struct GitChild {
    child: Option<Child>,
}

/// Error output of git.
pub(super) struct ErrorOutput(ChildStderr);

impl ErrorOutput {
    /// Reads the output to its end; returns the beginning.
    pub(super) async fn read_to_end(mut self) -> String {
        let mut bytes = Vec::new();
        // Git's exit says that it failed, also if its reason can't be read.
        let _ = (&mut self.0).take(MAX_ERRORS).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut self.0, &mut tokio::io::sink()).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl GitChild {
    /// Starts git on a repository.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) fn start(service: GitService, repository: &Path) -> Result<Self, String> {
        let mut command = Command::new("git");
        let max_input = format!("receive.maxInputSize={MAX_RESULT}");
        let settings: Vec<&str> = match service {
            GitService::FetchPlace => FETCH_SETTINGS.into(),
            GitService::PushResult => PUSH_SETTINGS.into_iter().chain([&*max_input]).collect(),
        };
        for setting in SETTINGS.into_iter().chain(settings) {
            command.args(["-c", setting]);
        }
        match service {
            GitService::FetchPlace => command.args(["upload-pack", "--strict"]),
            GitService::PushResult => command.arg("receive-pack"),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .arg(repository)
            .env_clear()
            .env("PATH", path)
            .envs([("HOME", "/nonexistent"), ("LC_ALL", "C"), ("GIT_CONFIG_NOSYSTEM", "1")])
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_TERMINAL_PROMPT", "0")])
            .envs([("GIT_OPTIONAL_LOCKS", "0"), ("GIT_NO_LAZY_FETCH", "1")])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let child = command.spawn().map_err(|e| format!("git could not be started at the relay: {e}"))?;
        Ok(Self { child: Some(child) })
    }

    /// Takes stdin, stdout and stderr.
    pub(super) fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout, ErrorOutput)> {
        let child = self.child.as_mut()?;
        Some((child.stdin.take()?, child.stdout.take()?, ErrorOutput(child.stderr.take()?)))
    }

    /// Waits for the exit.
    ///
    /// # Errors
    /// One line from git's error output.
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
        // Git removes its temporary files on TERM. The group is gone if that fails.
        let _ = kill_process_group(group, Signal::TERM);
        // Without a runtime the daemon is ending, and TERM has to suffice.
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
