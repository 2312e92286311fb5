//! Count of a job's changes in its workspace, made with git.
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
use crate::environment::{Variables, strip_secrets};
use crate::git_head::{self, Head};
use crate::process::{Exit, OutputPipes, OutputSource, capture};
use crate::shim::protocol::Command;
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// Timeout of each call of the script, so that a huge or slow workspace does not delay the job's end.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of the script at the start of a job. The job's first command waits for the script.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of reading `HEAD`. The job's first command waits until it is read.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
/// Script that counts the changes; the header of `git_diff.sh` documents the arguments.
const SCRIPT: &str = concat!(include_str!("git_env.sh"), include_str!("git_diff.sh"));
/// Exit code of the script if the workspace is in no repository, or is ignored by the repository around it.
const NO_REPOSITORY: i32 = 3;
/// Exit code of a shell that can't find a program; here it means that git is not installed.
const NO_GIT: i32 = 127;
/// Separator in the script's output between the list of changed files and the list of new files.
const LIST_SEPARATOR: &[u8] = b"\x01";
/// Maximum number of new files whose properties are kept, at about 100 bytes each.
const MAX_NEW_FILES: usize = 100_000;

/// The repository's state at the start of a job, `None` without a repository, or the reason why the state is unknown.
pub(crate) type BaselineResult = Result<Option<Baseline>, String>;

/// Settings for running the script for one job.
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

/// Number of new files by their properties: inode, size and times, as one line of the script's output.
type NewFiles = HashMap<Vec<u8>, usize>;

impl Baseline {
    /// Returns the state of a work tree without changes.
    fn clean(head: String, is_top: bool) -> Self {
        Self { tree: head.clone(), head, new_files: NewFiles::new(), is_top }
    }
}

impl GitCall {
    /// Creates the settings for a job's workspace. `worker_env` must not contain values of the job, because git
    /// starts programs that its environment names.
    pub(crate) fn new(
        worker_env: &Variables,
        spec: &JobSpec,
        user: Option<UserIds>,
        workspace: WorkspaceDir,
        sandbox: Option<JobSandbox>,
    ) -> Self {
        let mut env = strip_secrets(worker_env, &Variables::new());
        env.insert("RELAY_JOB".to_owned(), spec.job.to_string());
        Self { env, user, workspace, sandbox }
    }

    /// Runs the script with these arguments; returns its exit code and its output.
    async fn run(&self, arguments: &[&str]) -> Result<(i32, Vec<u8>), String> {
        let argv =
            ["sh", "-c", SCRIPT, "sh"].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        let mut command = Command {
            orphan_report: None,
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
        match timeout(SCRIPT_TIMEOUT, call).await {
            // The process was dropped before it ended.
            Err(_) => Err(format!("git took longer than {} s", SCRIPT_TIMEOUT.as_secs())),
            Ok(Ok((Some(Exit::Code(code)), output))) => Ok((code, output)),
            Ok(Ok(_)) => Err("git was killed".to_owned()),
            Ok(Err(event)) => Err(format!("git could not be run ({event:?})")),
        }
    }
}

/// Determines the baseline of a job. The job's first command may run when this function returns.
///
/// If `is_own_place`, the workspace is the job's own clone, whose files are all committed. Then the commit that `HEAD`
/// names is enough, and is read without git; if that fails, git determines the baseline while the command already runs.
/// Any other folder may have changes from before the job, so git determines the baseline before the command runs.
pub(crate) async fn find_baseline(git: &GitCall, is_own_place: bool) -> JoinHandle<BaselineResult> {
    let (git, workspace) = (git.clone(), git.workspace.clone());
    // A hanging disk blocks only this thread.
    let head = tokio::task::spawn_blocking(move || git_head::read(workspace.path().as_ref()));
    let head = timeout(HEAD_TIMEOUT, head).await;
    let ready = |result: BaselineResult| tokio::spawn(async { result });
    match head {
        Ok(Ok(Head::Commit { id, is_top })) if is_own_place => ready(Ok(Some(Baseline::clean(id, is_top)))),
        Ok(Ok(Head::NoRepository)) => ready(Ok(None)),
        Ok(Ok(found)) => {
            let is_top = matches!(found, Head::Commit { is_top: true, .. });
            let mut state = tokio::spawn(async move { read_baseline(&git, is_top).await });
            if is_own_place {
                return state;
            }
            if let Ok(done) = timeout(BEGIN_TIMEOUT, &mut state).await {
                return ready(done.unwrap_or(Ok(None)));
            }
            state.abort();
            ready(Err(format!("git took longer than {} s at the start", BEGIN_TIMEOUT.as_secs())))
        }
        Ok(Err(_)) | Err(_) => ready(Err(format!("HEAD can't be read within {} s", HEAD_TIMEOUT.as_secs()))),
    }
}

async fn read_baseline(git: &GitCall, is_top: bool) -> BaselineResult {
    match git.run(&["begin", location_argument(is_top)]).await? {
        (0, output) => parse_baseline(&output, is_top).map(Some),
        (NO_REPOSITORY | NO_GIT, _) => Ok(None),
        (code, _) => Err(format!("git ended with exit code {code}")),
    }
}

fn location_argument(is_top: bool) -> &'static str {
    if is_top { "top" } else { "below" }
}

/// Returns the changes since the baseline, including new files; `None` if git can't count changes in this workspace.
pub(crate) async fn changes_since(git: &GitCall, baseline: &Baseline) -> Result<Option<Changes>, String> {
    match git.run(&["count", &baseline.head, &baseline.tree, location_argument(baseline.is_top)]).await? {
        (0, output) => Ok(Some(parse_counts(&output, &baseline.new_files))),
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

/// Counts the lines with the properties of new files. Each of these lines begins with a number.
fn count_new_files<'a>(lines: impl Iterator<Item = &'a [u8]>) -> NewFiles {
    let mut files = NewFiles::new();
    let properties = lines.filter(|line| line.first().is_some_and(u8::is_ascii_digit));
    for line in properties.take(MAX_NEW_FILES) {
        *files.entry(line.to_owned()).or_default() += 1;
    }
    files
}

/// Counts the entries of `diff --numstat -z --no-renames`, and the files in the lines after [`LIST_SEPARATOR`] that are
/// not in `old_files`. Pure.
fn parse_counts(output: &[u8], old_files: &NewFiles) -> Changes {
    let mut changes = Changes::default();
    let mut entries = output.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    for entry in entries.by_ref().take_while(|entry| *entry != LIST_SEPARATOR) {
        let mut fields = entry.split(|byte| *byte == b'\t');
        // Binary files have a dash instead of a number.
        let mut number = || {
            let text = fields.next().and_then(|field| std::str::from_utf8(field).ok());
            text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0)
        };
        changes.insertions = changes.insertions.saturating_add(number());
        changes.deletions = changes.deletions.saturating_add(number());
        changes.files = changes.files.saturating_add(1);
    }
    let now = count_new_files(entries.flat_map(|lines| lines.split(|byte| *byte == b'\n')));
    let new = now.iter().map(|(file, count)| count.saturating_sub(old_files.get(file).copied().unwrap_or(0)));
    changes.files = changes.files.saturating_add(u32::try_from(new.sum::<usize>()).unwrap_or(u32::MAX));
    changes
}

#[cfg(test)]
#[path = "git_diff_tests.rs"]
mod tests;
