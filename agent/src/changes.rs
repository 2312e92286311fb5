//! What a job changed in its workspace, as git counts it.
//!
//! git runs as the worker's user and below a shim, like any command: the workspace's configuration can name programs.

use std::time::Duration;

use common::event::Changes;
use tokio::time::timeout;

use crate::environment::Variables;
use crate::process::{Exit, Source, Streams, capture};
use crate::shim::protocol::{Command, Ids};

/// For each call: a huge or slow workspace gets no count rather than a late end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How git is called for one job.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    workspace: String,
    env: Variables,
    user: Option<Ids>,
}

/// What the job began with: a commit, or the empty tree of a repository without one.
#[derive(Debug)]
pub(crate) struct Before {
    tree: String,
}

impl Git {
    /// git in a job's workspace.
    pub(crate) fn new(workspace: &str, env: &Variables, user: Option<Ids>) -> Self {
        let mut env = env.clone();
        // No lock files, and no questions.
        env.insert("GIT_OPTIONAL_LOCKS".to_owned(), "0".to_owned());
        env.insert("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned());
        Self { workspace: workspace.to_owned(), env, user }
    }

    /// What a call prints; none if it fails or takes too long (dropping it then ends it).
    async fn call(&self, arguments: &[&str]) -> Option<Vec<u8>> {
        let fixed = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];
        let argv = fixed.iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        let command = Command {
            testament: None,
            argv,
            env: self.env.clone(),
            cwd: self.workspace.clone(),
            user: self.user,
            stdin: String::new(),
            interrupt_first: false,
        };
        match timeout(PATIENCE, capture(command, Streams::Split, Source::Stdout)).await {
            Ok(Ok((Some(Exit::Code(0)), output))) => Some(output),
            _ => None,
        }
    }
}

/// The state at the begin; none where the workspace is no repository.
pub(crate) async fn before(git: Git) -> Option<Before> {
    let output = if let Some(head) = git.call(&["rev-parse", "--verify", "--quiet", "HEAD"]).await {
        head
    } else {
        git.call(&["rev-parse", "--is-inside-work-tree"]).await?;
        git.call(&["hash-object", "-t", "tree", "/dev/null"]).await?
    };
    // A folder that a repository around it ignores is none of that repository's.
    if git.call(&["check-ignore", "--quiet", "."]).await.is_some() {
        return None;
    }
    let tree = String::from_utf8(output).ok()?.trim().to_owned();
    let whole = tree.len() >= 40 && tree.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then_some(Before { tree })
}

/// What differs from the begin, new files included.
pub(crate) async fn since(git: &Git, before: &Before) -> Option<Changes> {
    let diff = [
        "diff",
        "--numstat",
        "-z",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--relative",
        &before.tree,
    ];
    let new = ["ls-files", "--others", "--exclude-standard", "-z"];
    let (diff, new) = tokio::join!(git.call(&diff), git.call(&new));
    Some(count(&diff?, &new?))
}

/// Counts the output of `diff --numstat -z --no-renames` and `ls-files -z`. Pure.
fn count(diff: &[u8], new: &[u8]) -> Changes {
    let mut changes = Changes::default();
    for entry in diff.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let mut fields = entry.split(|byte| *byte == b'\t');
        // Binary files have a dash in the place of a number.
        let mut number = || {
            let text = fields.next().and_then(|field| std::str::from_utf8(field).ok());
            text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0)
        };
        changes.insertions = changes.insertions.saturating_add(number());
        changes.deletions = changes.deletions.saturating_add(number());
        changes.files = changes.files.saturating_add(1);
    }
    let untracked = new.split(|byte| *byte == 0).filter(|path| !path.is_empty()).count();
    changes.files = changes.files.saturating_add(u32::try_from(untracked).unwrap_or(u32::MAX));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_binary_and_new_files_are_counted() {
        let diff = b"3\t1\ta b\x00-\t-\tpic.png\x000\t7\tgone\x00";
        assert_eq!(count(diff, b"new\x00new2\x00"), Changes { files: 5, insertions: 3, deletions: 8 });
        assert_eq!(count(b"", b""), Changes::default());
    }
}
