//! Changes of a job in its workspace, as git counts them.
//!
//! The workspace's git configuration can name programs for git to start. So git runs with settings that disable these
//! programs, and like any command of the job, as the worker's user or in the sandbox.

use std::time::Duration;

use common::event::Changes;
use common::job::JobSpec;
use common::place::is_commit_id;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::confine::sandbox::JobSandbox;
use crate::environment::{Variables, without_secrets};
use crate::git_head::{self, Head};
use crate::process::{Exit, OutputPipes, OutputSource, capture};
use crate::shim::protocol::Command;
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// Timeout of each call of git, so that a huge or slow workspace does not delay the job's end.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of reading `HEAD`. The job's first command waits for it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
/// Script that counts the changes; its header documents its arguments.
const SCRIPT: &str = concat!(include_str!("git_env.sh"), include_str!("git_diff.sh"));
/// Exit code of the script if the workspace is in no repository, or is ignored by the repository around it.
const NO_REPOSITORY: i32 = 3;
/// Exit code of a shell that can't find a program; here it means that git is not installed.
const NO_GIT: i32 = 127;
/// Separator of the two lists in the script's output. No entry of either list looks like it.
const LIST_SEPARATOR: &[u8] = b"\x01";

/// The repository's state at the start of a job, `None` without a repository, or the reason why the state is unknown.
pub(crate) type BaselineResult = Result<Option<Baseline>, String>;

/// Call of git for one job.
#[derive(Debug, Clone)]
pub(crate) struct GitCall {
    env: Variables,
    user: Option<UserIds>,
    workspace: WorkspaceDir,
    sandbox: Option<JobSandbox>,
}

/// State of the repository at the start of the job.
#[derive(Debug)]
pub(crate) struct Baseline {
    /// The commit, or the empty tree if the repository has no commit.
    tree: String,
    /// True if the workspace is the top folder of its repository.
    is_top: bool,
}

impl GitCall {
    /// Creates the call of git in a job's workspace. `worker_env` must not contain values of the job, because git
    /// starts programs that its environment names.
    pub(crate) fn new(
        worker_env: &Variables,
        spec: &JobSpec,
        user: Option<UserIds>,
        workspace: WorkspaceDir,
        sandbox: Option<JobSandbox>,
    ) -> Self {
        let mut env = without_secrets(worker_env, &Variables::new());
        env.insert("RELAY_JOB".to_owned(), spec.job.to_string());
        Self { env, user, workspace, sandbox }
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
        let call = capture(command, OutputPipes::Split, OutputSource::Stdout, Some(&self.workspace));
        match timeout(TIMEOUT, call).await {
            // The process was dropped before it ended.
            Err(_) => Err(format!("git took longer than {} s", TIMEOUT.as_secs())),
            Ok(Ok((Some(Exit::Code(code)), output))) => Ok((code, output)),
            Ok(Ok(_)) => Err("git was killed".to_owned()),
            Ok(Err(event)) => Err(format!("git could not be run ({event:?})")),
        }
    }
}

/// Begins to determine the state at the start, and returns when the job's first command may run. That command may
/// commit, so `HEAD` is read first. If that is not enough, git determines the state while the command already runs.
pub(crate) async fn begin(git: &GitCall) -> JoinHandle<BaselineResult> {
    let (git, workspace) = (git.clone(), git.workspace.clone());
    // A hanging disk blocks only this thread.
    let head = tokio::task::spawn_blocking(move || git_head::read(workspace.path().as_ref()));
    let head = timeout(HEAD_TIMEOUT, head).await;
    tokio::spawn(async move {
        match head {
            Ok(Ok(Head::Commit { id, is_top })) => Ok(Some(Baseline { tree: id, is_top })),
            Ok(Ok(Head::NoRepository)) => Ok(None),
            Ok(Ok(Head::Unclear)) => baseline_of_git(&git).await,
            Ok(Err(_)) | Err(_) => Err(format!("HEAD can't be read within {} s", HEAD_TIMEOUT.as_secs())),
        }
    })
}

async fn baseline_of_git(git: &GitCall) -> BaselineResult {
    match git.run(&["begin"]).await? {
        (0, output) => {
            let tree = String::from_utf8_lossy(&output).trim().to_owned();
            if is_commit_id(&tree) {
                Ok(Some(Baseline { tree, is_top: false }))
            } else {
                Err("git reports no commit".to_owned())
            }
        }
        (NO_REPOSITORY | NO_GIT, _) => Ok(None),
        (code, _) => Err(format!("git ended with exit code {code}")),
    }
}

/// Returns the changes since the start, including new files; `None` if git can't count changes in this workspace.
pub(crate) async fn changes_since(git: &GitCall, before: &Baseline) -> Result<Option<Changes>, String> {
    match git.run(&["count", &before.tree, if before.is_top { "top" } else { "below" }]).await? {
        (0, output) => Ok(Some(parse_counts(&output))),
        (NO_REPOSITORY | NO_GIT, _) => Ok(None),
        (code, _) => Err(format!("git ended with exit code {code}")),
    }
}

/// Counts the entries of `diff --numstat -z --no-renames`, and the new files in the lines of `status --porcelain=v2`
/// after [`LIST_SEPARATOR`]. Pure.
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
    let new_files = entries
        .flat_map(|status| status.split(|byte| *byte == b'\n'))
        .filter(|line| line.starts_with(b"? "))
        .count();
    changes.files = changes.files.saturating_add(u32::try_from(new_files).unwrap_or(u32::MAX));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_binary_and_new_files_are_counted() {
        let diff = b"3\t1\ta b\x00-\t-\tpic.png\x000\t7\tgone\x00";
        let status = b"# branch.oid abc\n1 .M N... 100644 100644 100644 a a a b\n? new\n? \"new\\n2\"\n";
        let output = [&diff[..], b"\x01\x00", status].concat();
        assert_eq!(parse_counts(&output), Changes { files: 5, insertions: 3, deletions: 8 });
        assert_eq!(parse_counts(b"\x01\x00# branch.oid abc\n"), Changes::default());
    }
}
