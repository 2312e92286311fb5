//! The removal of a result's branch.

use std::path::Path;

use super::GitError;
use super::command::nul_fields;
use super::source::Source;

/// Outcome of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// The branch was removed.
    Removed,
    /// There was no such branch.
    Absent,
}

/// Removes a branch from the repository that `workspace` lies in, if it still is at `commit`. With `force`, removes it
/// wherever it is.
///
/// # Errors
/// Refuses a branch that was moved, and one that is checked out.
pub fn discard(workspace: &Path, branch: &str, commit: &str, force: bool) -> Result<Discarded, GitError> {
    let source = Source::find(workspace)?;
    let name = format!("refs/heads/{branch}");
    let Some(current) = source.resolve(&name)? else { return Ok(Discarded::Absent) };
    if current != commit && !force {
        return Err(GitError::refused(format!(
            "branch {branch} has moved since the job ended, from {} to {}: --force removes it all the same",
            &commit[..commit.len().min(12)],
            &current[..12]
        )));
    }
    if let Some(root) = checked_out_in(&source, &name)? {
        return Err(GitError::refused(format!(
            "branch {branch} is checked out in {root}: switch to another branch there first"
        )));
    }
    source.refs_command("update-ref").args(["--no-deref", "-d", &name, &current]).output()?;
    Ok(Discarded::Removed)
}

/// Returns the work tree in which a branch is checked out.
fn checked_out_in(source: &Source, name: &str) -> Result<Option<String>, GitError> {
    let list = source.refs_command("worktree").args(["list", "--porcelain", "-z"]).output()?;
    let (mut root, wanted) = (String::new(), format!("branch {name}"));
    for line in nul_fields(&list) {
        let line = String::from_utf8_lossy(line);
        if let Some(path) = line.strip_prefix("worktree ") {
            root = common::text_format::one_line(path, 200);
        } else if line == wanted {
            return Ok(Some(root));
        }
    }
    Ok(None)
}
