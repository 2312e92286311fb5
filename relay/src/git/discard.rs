//! The removal of the branch that a result was published as.

use std::path::Path;

use super::GitError;
use super::command::nul_fields;
use super::source::Source;

/// Outcome of the removal of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardOutcome {
    /// The branch was removed.
    Removed,
    /// There was no such branch.
    Absent,
}

/// Removes a branch from the repository that `workspace` lies in, if it still is at `commit`. With `is_forced`, removes
/// the branch even if it has moved.
///
/// # Errors
/// Refuses a branch that was moved, and one that is checked out.
pub fn discard(
    workspace: &Path,
    branch: &str,
    commit: &str,
    is_forced: bool,
) -> Result<DiscardOutcome, GitError> {
    let source = Source::find(workspace)?;
    let name = format!("refs/heads/{branch}");
    let Some(current) = source.resolve(&name)? else { return Ok(DiscardOutcome::Absent) };
    if current != commit && !is_forced {
        return Err(GitError::refused(format!(
            "branch {branch} has moved since the job ended, from {} to {}: --force removes it all the same",
            &commit[..commit.len().min(12)],
            &current[..12]
        )));
    }
    if let Some(root) = work_tree_of_branch(&source, &name)? {
        return Err(GitError::refused(format!(
            "branch {branch} is checked out in {root}: switch to another branch there first"
        )));
    }
    source.refs_command("update-ref").args(["--no-deref", "-d", &name, &current]).output()?;
    Ok(DiscardOutcome::Removed)
}

/// Returns the root of the work tree in which a branch is checked out.
fn work_tree_of_branch(source: &Source, name: &str) -> Result<Option<String>, GitError> {
    let list = source.refs_command("worktree").args(["list", "--porcelain", "-z"]).output()?;
    let (mut root, branch_line) = (String::new(), format!("branch {name}"));
    for line in nul_fields(&list) {
        let line = String::from_utf8_lossy(line);
        if let Some(path) = line.strip_prefix("worktree ") {
            root = common::text_format::one_line(path, 200);
        } else if line == branch_line {
            return Ok(Some(root));
        }
    }
    Ok(None)
}
