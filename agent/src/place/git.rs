//! Commands of git in a job's place.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use common::place::{PlaceSpec, is_commit_id};
use common::stream::{StreamError, StreamService};
use common::text_format::one_line;
use tokio::time::timeout;

use super::cache::RepositoryCache;
use super::script::argv;
use crate::confine::sandbox::JobSandbox;
use crate::environment::{Variables, strip_secrets};
use crate::git_head::{self, Head};
use crate::process::{Event, Exit, OutputPipes, OutputSource, capture};
use crate::shim::protocol::Command;
use crate::spool::RunId;
use crate::stream_request::{OpenedStream, StreamOpener};
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// Timeout of the commit of uncommitted changes: hashing some gigabytes of new files takes this long.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of one snapshot of the work tree.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a snapshot, in KiB. A larger one contains the output of builds. Every snapshot is pushed.
const MAX_SNAPSHOT_KIB: u32 = 64 * 1024;
/// Timeout of one push: enough for the largest result over a slow connection.
const PUSH_TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum time to wait for the result of a stream after git here has ended. The relay's git then ends, too.
const STREAM_END_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of reading `HEAD` from a disk that hangs.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason why a push failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The connection ended: another attempt may succeed.
    ConnectionLost,
    /// Another attempt would fail, too. Contains the reason in one line.
    Failed(String),
}

/// Commit of the work tree at one moment, on top of `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) tree: String,
    pub(crate) commit: String,
    /// Temporary folder with the new objects of the snapshot.
    folder: String,
}

/// Git for a job's place (its clone).
#[derive(Debug, Clone)]
pub(crate) struct PlaceGit {
    pub(crate) run: RunId,
    pub(crate) spec: PlaceSpec,
    pub(crate) streams: StreamOpener,
    /// Top folder of the place.
    pub(crate) top: WorkspaceDir,
    /// Environment without the job's own values: git starts programs that its environment names.
    pub(crate) env: Variables,
    pub(crate) user: Option<UserIds>,
    pub(crate) sandbox: Option<JobSandbox>,
    /// Cache of the repository, if workers can't write it.
    pub(crate) cache: Option<RepositoryCache>,
}

/// Returns the command line that makes a place: from the objects in a cache, else by a fetch with a stream as stdout.
pub(crate) fn clone_argv(place: &PlaceSpec, cache: Option<&str>) -> Vec<String> {
    argv(&["clone", place.base(), place.branch(), &depth(place).to_string(), cache.unwrap_or_default()])
}

/// Returns the command line that checks the base out in a clone that was kept.
pub(crate) fn continue_argv(place: &PlaceSpec) -> Vec<String> {
    argv(&["continue", place.base(), place.branch()])
}

/// Returns the number of commits to fetch: the base, and its parent if the base adds the caller's uncommitted files to
/// that parent. With the parent in the cache, a later job fetches only what differs from it.
pub(crate) fn depth(place: &PlaceSpec) -> u32 {
    if place.base() == place.parent() { 1 } else { 2 }
}

impl PlaceGit {
    /// Returns the path of the place.
    pub(crate) fn path(&self) -> &Path {
        Path::new(self.top.path())
    }

    /// Opens a stream to the job's repository at the relay; waits for a connection.
    ///
    /// # Errors
    /// One line with the reason.
    pub(crate) async fn open_stream(&self, service: StreamService) -> Result<OpenedStream, String> {
        self.streams.open(&self.run, service).await.map_err(|error| error.to_string())
    }

    /// Returns the commit that `HEAD` names, as far as it can be read without git.
    pub(crate) async fn head(&self) -> Option<String> {
        let top = self.top.clone();
        // A hanging disk blocks only this thread.
        let read = tokio::task::spawn_blocking(move || git_head::read(top.path().as_ref()));
        match timeout(HEAD_TIMEOUT, read).await {
            Ok(Ok(Head::Commit { id, is_top: true })) => Some(id),
            _ => None,
        }
    }

    /// Commits all uncommitted changes. No other process of the job may run.
    ///
    /// # Errors
    /// One line with the reason.
    pub(crate) async fn commit_changes(&self) -> Result<(), String> {
        let (exit, output) =
            self.run(&["commit"], OutputPipes::Merged, OutputSource::Stdout, COMMIT_TIMEOUT).await?;
        if exit == Exit::Code(0) { Ok(()) } else { Err(failure_line(&output)) }
    }

    /// Makes a commit of the work tree in a temporary folder, not in the place's repository. Returns `None` if the
    /// commit has the tree of `last` (a tree or a commit), or if its new objects are too large.
    ///
    /// # Errors
    /// One line with the reason.
    pub(crate) async fn snapshot(&self, last: &str) -> Result<Option<Snapshot>, String> {
        let arguments = ["snapshot", last, &MAX_SNAPSHOT_KIB.to_string()];
        let (exit, output) =
            self.run(&arguments, OutputPipes::Split, OutputSource::Stdout, SNAPSHOT_TIMEOUT).await?;
        if exit != Exit::Code(0) {
            return Err("git could not read the work tree".to_owned());
        }
        let line = String::from_utf8_lossy(&output);
        let fields: Vec<&str> = line.trim_end().splitn(3, ' ').collect();
        match fields[..] {
            [""] => Ok(None),
            [tree, commit, folder] if is_commit_id(tree) && is_commit_id(commit) => {
                let [tree, commit, folder] = [tree, commit, folder].map(str::to_owned);
                Ok(Some(Snapshot { tree, commit, folder }))
            }
            _ => Err("git gave no ids".to_owned()),
        }
    }

    /// Pushes `HEAD` as the job's result if `has_commits` is true, and a snapshot as the work in progress; waits for a
    /// connection. Returns true if earlier commits of the result were replaced.
    ///
    /// # Errors
    /// The connection was lost, or the reason of a failure.
    pub(crate) async fn push(
        &self,
        has_commits: bool,
        snapshot: Option<&Snapshot>,
    ) -> Result<bool, PushError> {
        let live = snapshot.map(|snapshot| format!("{}:refs/heads/live", snapshot.commit));
        let mut arguments = vec!["push", snapshot.map_or("", |snapshot| &snapshot.folder)];
        arguments.extend(has_commits.then_some("HEAD:refs/heads/result"));
        arguments.extend(live.as_deref());
        let OpenedStream { job_side, result } =
            self.open_stream(StreamService::PushResult).await.map_err(PushError::Failed)?;
        let mut result = pin!(result.wait());
        let mut running =
            pin!(self.run(&arguments, OutputPipes::Stream(job_side), OutputSource::Stderr, PUSH_TIMEOUT));
        let (pushed, end) = tokio::select! {
            pushed = &mut running => (pushed, timeout(STREAM_END_TIMEOUT, result).await.ok()),
            end = &mut result => {
                // Git does not notice the end of the stream while it waits for something else.
                let late = |_| Err("git did not end with its stream".to_owned());
                let limit = if end.is_ok() { PUSH_TIMEOUT } else { STREAM_END_TIMEOUT };
                (timeout(limit, running).await.unwrap_or_else(late), Some(end))
            }
        };
        let failure = match pushed {
            Ok((Exit::Code(0), output)) => {
                return Ok(String::from_utf8_lossy(&output).contains("result (forced update)"));
            }
            Ok((_, output)) => failure_line(&output),
            Err(reason) => reason,
        };
        match end {
            Some(Err(StreamError::Lost)) => Err(PushError::ConnectionLost),
            Some(Err(StreamError::Refused(reason))) if !is_known_cause(&failure) => {
                Err(PushError::Failed(reason))
            }
            _ => Err(PushError::Failed(failure)),
        }
    }

    async fn run(
        &self,
        arguments: &[&str],
        pipes: OutputPipes,
        wanted_source: OutputSource,
        limit: Duration,
    ) -> Result<(Exit, Vec<u8>), String> {
        let mut env = strip_secrets(&self.env, &Variables::new());
        env.insert("RELAY_JOB".to_owned(), self.run.job.to_string());
        let mut command = Command {
            argv: argv(arguments),
            env,
            cwd: ".".to_owned(),
            user: self.user,
            stdin: String::new(),
            interrupt_first: false,
            orphan_report: None,
            confine: None,
        };
        if let Some(sandbox) = &self.sandbox {
            sandbox.wrap(&mut command);
        }
        // The process ends when the future is dropped.
        match timeout(limit, capture(command, pipes, wanted_source, Some(&self.top))).await {
            Err(_) => Err(format!("git took longer than {} s", limit.as_secs())),
            Ok(Ok((Some(exit), output))) => Ok((exit, output)),
            Ok(Ok((None, _)) | Err(Event::Lost)) => Err("git was killed".to_owned()),
            Ok(Err(Event::SpawnFailed { message })) => Err(message),
            Ok(Err(event)) => Err(format!("git could not be run ({event:?})")),
        }
    }
}

/// Texts in git's output that have one clear cause, and the line to show.
const KNOWN_CAUSES: [(&str, &str); 4] = [
    (
        "git is not installed on the platform",
        "git is not installed on the platform: add it to the image, or to this machine",
    ),
    ("exceeds maximum allowed size", "it is larger than the relay accepts"),
    ("No space left on device", "the disk is full"),
    ("Disk quota exceeded", "the disk is full"),
];

/// Returns true for a failure that another attempt can't fix.
pub(crate) fn is_known_cause(line: &str) -> bool {
    KNOWN_CAUSES.iter().any(|(_, message)| line.ends_with(message))
}

/// Returns the line of git's output that best explains why git failed.
pub(crate) fn failure_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    if let Some((_, message)) = KNOWN_CAUSES.iter().find(|(cause, _)| text.contains(cause)) {
        return (*message).to_owned();
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason =
        lines().find(|line| ["remote: ", "fatal: ", "error: "].iter().any(|prefix| line.starts_with(prefix)));
    match reason.or_else(|| lines().next_back()) {
        Some(line) => one_line(line, 300),
        None => "git failed without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_explained_by_its_cause_or_by_git_s_first_error() {
        let cases: [(&[u8], &str); 5] = [
            (b"remote: fatal: pack exceeds maximum allowed size\nerror: failed to push\n", KNOWN_CAUSES[1].1),
            (b"fatal: write error: No space left on device\n", "the disk is full"),
            (b"hint: x\nerror: remote unpack failed\nfatal: y\n", "error: remote unpack failed"),
            (b"something\n\nelse\n", "else"),
            (b"\n", "git failed without a message"),
        ];
        for (output, expected) in cases {
            assert_eq!(failure_line(output), expected);
        }
    }
}
