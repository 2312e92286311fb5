//! Changes of a job in its workspace, as git counts them.
//!
//! The workspace's git configuration can name programs for git to start. So git runs with settings that disable these
//! programs, and like any command of the job, as the worker's user or in the sandbox.

use std::collections::HashMap;
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
/// Timeout of git at the start of a job. The job's first command waits for it.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(3);
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
/// Maximum number of new files that are told apart, with about 100 bytes each.
const MAX_NEW_FILES: usize = 100_000;

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
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Baseline {
    /// The commit, or the empty tree if the repository has no commit.
    head: String,
    /// The tree with the changes that were not committed; the same as `head` if there were none.
    tree: String,
    /// Properties of the files that git did not track, with the number of files that have them.
    new_files: NewFiles,
    /// True if the workspace is the top folder of its repository.
    is_top: bool,
}

/// Number of files by their properties.
type NewFiles = HashMap<Vec<u8>, usize>;

impl Baseline {
    /// Returns the state of a work tree without changes.
    fn clean(head: String, is_top: bool) -> Self {
        Self { tree: head.clone(), head, new_files: NewFiles::new(), is_top }
    }
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

/// Determines the state at the start of a job. The job's first command may run when this returns.
///
/// Everything in the work tree of an `own_place` was committed there, so its `HEAD` is enough; it is read without git.
/// If that fails, git determines the state while the command already runs. In any other folder there may be changes
/// from before the job, so git looks first.
pub(crate) async fn begin(git: &GitCall, own_place: bool) -> JoinHandle<BaselineResult> {
    let (git, workspace) = (git.clone(), git.workspace.clone());
    // A hanging disk blocks only this thread.
    let head = tokio::task::spawn_blocking(move || git_head::read(workspace.path().as_ref()));
    let head = timeout(HEAD_TIMEOUT, head).await;
    let known = |result: BaselineResult| tokio::spawn(async { result });
    match head {
        Ok(Ok(Head::Commit { id, is_top })) if own_place => known(Ok(Some(Baseline::clean(id, is_top)))),
        Ok(Ok(Head::NoRepository)) => known(Ok(None)),
        Ok(Ok(found)) => {
            let is_top = matches!(found, Head::Commit { is_top: true, .. });
            let mut state = tokio::spawn(async move { state_of_git(&git, is_top).await });
            if own_place {
                return state;
            }
            if let Ok(done) = timeout(BEGIN_TIMEOUT, &mut state).await {
                return known(done.unwrap_or(Ok(None)));
            }
            state.abort();
            known(Err(format!("git took longer than {} s at the start", BEGIN_TIMEOUT.as_secs())))
        }
        Ok(Err(_)) | Err(_) => known(Err(format!("HEAD can't be read within {} s", HEAD_TIMEOUT.as_secs()))),
    }
}

async fn state_of_git(git: &GitCall, is_top: bool) -> BaselineResult {
    match git.run(&["begin", where_in(is_top)]).await? {
        (0, output) => parse_baseline(&output, is_top).map(Some),
        (NO_REPOSITORY | NO_GIT, _) => Ok(None),
        (code, _) => Err(format!("git ended with exit code {code}")),
    }
}

fn where_in(is_top: bool) -> &'static str {
    if is_top { "top" } else { "below" }
}

/// Returns the changes since the start, including new files; `None` if git can't count changes in this workspace.
pub(crate) async fn changes_since(git: &GitCall, before: &Baseline) -> Result<Option<Changes>, String> {
    match git.run(&["count", &before.head, &before.tree, where_in(before.is_top)]).await? {
        (0, output) => Ok(Some(parse_counts(&output, &before.new_files))),
        (NO_REPOSITORY | NO_GIT, _) => Ok(None),
        (code, _) => Err(format!("git ended with exit code {code}")),
    }
}

/// Reads the script's output for `begin`. Pure.
fn parse_baseline(output: &[u8], is_top: bool) -> Result<Baseline, String> {
    let mut lines = output.split(|byte| *byte == b'\n');
    let mut id = || {
        let id = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        if is_commit_id(&id) { Ok(id) } else { Err("git reports no commit".to_owned()) }
    };
    let (head, tree) = (id()?, id()?);
    Ok(Baseline { head, tree, new_files: count_new_files(lines), is_top })
}

/// Counts the lines with the properties of new files: each begins with a number.
fn count_new_files<'a>(lines: impl Iterator<Item = &'a [u8]>) -> NewFiles {
    let mut files = NewFiles::new();
    let properties = lines.filter(|line| line.first().is_some_and(u8::is_ascii_digit));
    for line in properties.take(MAX_NEW_FILES) {
        *files.entry(line.to_owned()).or_default() += 1;
    }
    files
}

/// Counts the entries of `diff --numstat -z --no-renames`, and the new files in the lines after [`LIST_SEPARATOR`] that
/// were not there before. Pure.
fn parse_counts(output: &[u8], before: &NewFiles) -> Changes {
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
    let now = count_new_files(entries.flat_map(|lines| lines.split(|byte| *byte == b'\n')));
    let new = now.iter().map(|(file, count)| count.saturating_sub(before.get(file).copied().unwrap_or(0)));
    changes.files = changes.files.saturating_add(u32::try_from(new.sum::<usize>()).unwrap_or(u32::MAX));
    changes
}

#[cfg(test)]
#[path = "git_diff_tests.rs"]
mod tests;
