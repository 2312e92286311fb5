//! Changes of a job in its workspace, as git counts them.
//!
//! The workspace's configuration can name programs. So git runs like any command of the job, as the worker's user or
//! in its sandbox, with settings that keep it from starting them.

use std::path::Path;
use std::time::Duration;

use common::event::Changes;
use common::job::JobSpec;
use tokio::time::timeout;

use crate::confine::repository;
use crate::confine::sandbox::JobSandbox;
use crate::environment::{Variables, without_secrets};
use crate::process::{Exit, OutputSource, Streams, capture};
use crate::shim::protocol::Command;
use crate::user::Ids;
use crate::workspace::WorkspaceDir;

/// Timeout of each count: a huge or slow workspace gets no count rather than a late end.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Script that counts the changes; its header documents its arguments.
const SCRIPT: &str = include_str!("git_diff.sh");
/// Exit code of the script without a repository.
const NO_REPOSITORY: i32 = 3;
/// Exit code if the repository around the workspace ignores it, so that nothing in it is the repository's.
const IGNORED_WORKSPACE: i32 = 4;
/// Separator of the two lists; none of their entries looks like it.
const LIST_SEPARATOR: &[u8] = b"\x01";

/// Call of git for one job.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    env: Variables,
    user: Option<Ids>,
    folder: WorkspaceDir,
    sandbox: Option<JobSandbox>,
}

/// State at the start of the job: a commit, or the empty tree of a repository without one.
#[derive(Debug)]
pub(crate) struct Baseline {
    tree: String,
}

impl Git {
    /// Creates the call of git in a job's workspace. `workers` is the environment without the job's own values: git
    /// takes programs from it.
    pub(crate) fn new(
        workers: &Variables,
        spec: &JobSpec,
        user: Option<Ids>,
        folder: WorkspaceDir,
        sandbox: Option<JobSandbox>,
    ) -> Self {
        let mut env = without_secrets(workers, &Variables::new());
        env.insert("RELAY_JOB".to_owned(), spec.job.to_string());
        Self { env, user, folder, sandbox }
    }

    /// Runs a call; returns its exit code and its output.
    async fn run(&self, arguments: &[&str]) -> Result<(i32, Vec<u8>), String> {
        let argv =
            ["sh", "-c", SCRIPT, "sh"].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        let mut command = Command {
            exit_report: None,
            confine: None,
            argv,
            env: self.env.clone(),
            cwd: ".".to_owned(),
            user: self.user,
            stdin: String::new(),
            interrupt_first: false,
        };
        if let Some(sandbox) = &self.sandbox {
            sandbox.wrap(&mut command);
        }
        let call = capture(command, Streams::Split, OutputSource::Stdout, Some(&self.folder));
        match timeout(TIMEOUT, call).await {
            // Ended because the process was dropped.
            Err(_) => Err(format!("git took longer than {} s", TIMEOUT.as_secs())),
            Ok(Ok((Some(Exit::Code(code)), output))) => Ok((code, output)),
            Ok(Ok(_)) => Err("git was killed".to_owned()),
            Ok(Err(event)) => Err(format!("git could not be run ({event:?})")),
        }
    }
}

/// Returns the state at the start; `None` if the workspace is no repository.
pub(crate) async fn baseline(git: Git) -> Result<Option<Baseline>, String> {
    if !repository::is_inside(Path::new(git.folder.path())) {
        return Ok(None);
    }
    match git.run(&["begin"]).await? {
        (0, output) => {
            let tree = String::from_utf8_lossy(&output).trim().to_owned();
            let whole = tree.len() >= 40 && tree.bytes().all(|byte| byte.is_ascii_hexdigit());
            if whole { Ok(Some(Baseline { tree })) } else { Err("git reports no commit".to_owned()) }
        }
        // A machine without git has no repositories to count in.
        (NO_REPOSITORY | IGNORED_WORKSPACE | 127, _) => Ok(None),
        (code, _) => Err(format!("git ended with exit code {code}")),
    }
}

/// Returns the changes since the start, new files included.
pub(crate) async fn changes_since(git: &Git, before: &Baseline) -> Result<Changes, String> {
    match git.run(&["count", &before.tree]).await? {
        (0, output) => Ok(parse_counts(&output)),
        (code, _) => Err(format!("git ended with exit code {code}")),
    }
}

/// Counts the output of `diff --numstat -z --no-renames`, and after [`LIST_SEPARATOR`] that of `ls-files -z`. Pure.
fn parse_counts(output: &[u8]) -> Changes {
    let mut changes = Changes::default();
    let mut entries = output.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    for entry in entries.by_ref().take_while(|entry| *entry != LIST_SEPARATOR) {
        let mut fields = entry.split(|byte| *byte == b'\t');
        // Binary files have a dash in place of a number.
        let mut number = || {
            let text = fields.next().and_then(|field| std::str::from_utf8(field).ok());
            text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0)
        };
        changes.insertions = changes.insertions.saturating_add(number());
        changes.deletions = changes.deletions.saturating_add(number());
        changes.files = changes.files.saturating_add(1);
    }
    changes.files = changes.files.saturating_add(u32::try_from(entries.count()).unwrap_or(u32::MAX));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_binary_and_new_files_are_counted() {
        let diff = b"3\t1\ta b\x00-\t-\tpic.png\x000\t7\tgone\x00";
        let output = [&diff[..], b"\x01\x00new\x00new2\x00"].concat();
        assert_eq!(parse_counts(&output), Changes { files: 5, insertions: 3, deletions: 8 });
        assert_eq!(parse_counts(b"\x01\x00"), Changes::default());
    }
}
