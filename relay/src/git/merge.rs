//! Merges a job's result into the branch that the user's work tree is on.
//!
//! ```text
//! HEAD is an ancestor of the result     the branch moves to the result
//! otherwise                             a commit with both as parents, if there is no conflict
//! ```
//!
//! Files and index are changed first and the branch last, so that a failure leaves the branch where it was.

use std::path::Path;

use super::GitError;
use super::apply::{Change, check_no_overwrite, open_scratch};
use super::command::{WORK_LIMIT, nul_fields, path_of};
use super::config::PersonSettings;
use super::job_repository::JobRepository;
use super::scratch::Scratch;
use super::snapshot;
use super::source::{Head, Source};

/// A result that was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedResult {
    /// Commit that the work tree is at now.
    pub commit: String,
    /// Branch that was moved, without `refs/heads/`; `None` for a detached HEAD.
    pub branch: Option<String>,
    /// True if the branch already contained the result.
    pub is_repeat: bool,
}

/// Merges a result into the branch of the work tree that `workspace` lies in.
///
/// # Errors
/// Refuses a repository without a commit, a merge in progress, conflicts, and a change that would overwrite uncommitted
/// files. Nothing is changed then.
pub fn merge(
    workspace: &Path,
    repository: &JobRepository,
    change: Change<'_>,
) -> Result<MergedResult, GitError> {
    let source = Source::find(workspace)?;
    let Head::Commit { id: head, branch } = source.head()? else {
        return Err(GitError::refused(format!(
            "{} has no commit yet: `git switch {}` there takes the branch",
            source.root.display(),
            change.branch
        )));
    };
    check_idle(&source)?;
    if source.resolve(change.commit)?.is_none() {
        return Err(GitError::refused(format!(
            "branch {} is not in {}: `relay apply` takes the change without it",
            change.branch,
            source.root.display()
        )));
    }
    let name = branch.as_ref().map(|branch| branch.trim_start_matches("refs/heads/").to_owned());
    let scratch = open_scratch(&source, repository, change.commit)?;
    let is_ancestor = |ancestor: &str, descendant: &str| -> Result<bool, GitError> {
        Ok(scratch.git("merge-base").args(["--is-ancestor", ancestor, descendant]).run()?.code == 0)
    };
    if is_ancestor(change.commit, &head)? {
        return Ok(MergedResult { commit: head, branch: name, is_repeat: true });
    }
    let commit = if is_ancestor(&head, change.commit)? {
        change.commit.to_owned()
    } else {
        merge_commit(&source, &scratch, &head, change)?
    };
    update_files(&source, &scratch, (&head, &commit), change)?;
    let target = branch.as_deref().unwrap_or("HEAD");
    let message = format!("relay merge: {}", change.branch);
    let moved =
        source.refs_command("update-ref").args(["--no-deref", "-m", &message, target, &commit, &head]);
    if let Err(error) = moved.output() {
        // Another command has moved the branch meanwhile, so the files are changed back.
        update_files(&source, &scratch, (&commit, &head), change)?;
        return Err(error);
    }
    Ok(MergedResult { commit, branch: name, is_repeat: false })
}

/// Refuses a repository in which another merge, rebase or the like is in progress.
fn check_idle(source: &Source) -> Result<(), GitError> {
    for (name, what) in [
        ("MERGE_HEAD", "merge"),
        ("CHERRY_PICK_HEAD", "cherry-pick"),
        ("REVERT_HEAD", "revert"),
        ("rebase-merge", "rebase"),
        ("rebase-apply", "rebase"),
    ] {
        if source.git_dir.join(name).exists() {
            return Err(GitError::refused(format!(
                "a {what} is in progress in {}: finish or abort it first",
                source.root.display()
            )));
        }
    }
    Ok(())
}

/// Creates the merge commit in the user's repository.
fn merge_commit(
    source: &Source,
    scratch: &Scratch,
    head: &str,
    change: Change<'_>,
) -> Result<String, GitError> {
    let merge = scratch.git("merge-tree").args(["--write-tree", "-z", "--name-only", "--no-messages"]);
    // The tree is written into the user's repository, since the branch needs it there.
    let merge = merge.env("GIT_OBJECT_DIRECTORY", source.objects());
    let merged = merge.args([head, change.commit]).limit(WORK_LIMIT).run()?;
    let mut fields = nul_fields(&merged.stdout);
    let tree = fields.next().map(|tree| String::from_utf8_lossy(tree).into_owned()).unwrap_or_default();
    match merged.code {
        0 => {}
        1 => {
            let files: Vec<_> = fields.map(path_of).collect();
            return Err(GitError::refused(format!(
                "{} conflicts with HEAD in {}: nothing was changed; `relay apply` marks the conflicts in the files, \
                 `git merge {}` too",
                change.branch,
                snapshot::format_paths(files.into_iter()),
                change.branch
            )));
        }
        129 => {
            return Err(GitError::refused(
                "this needs git 2.38 or newer: install it, or merge the branch by hand",
            ));
        }
        _ => return Err(merged.error("merge-tree")),
    }
    let message = format!("Merge branch '{}'", change.branch);
    let commit = scratch.git("commit-tree").args([&tree, "-p", head, "-p", change.commit, "-m", &message]);
    let mut commit = commit.env("GIT_OBJECT_DIRECTORY", source.objects());
    if let Some((name, email)) = PersonSettings::read()?.identity() {
        for (variable, value) in [("NAME", name), ("EMAIL", email)] {
            commit = commit.env(&format!("GIT_AUTHOR_{variable}"), value);
            commit = commit.env(&format!("GIT_COMMITTER_{variable}"), value);
        }
    }
    commit.text()
}

/// Changes files and index of the work tree from one commit to another. Changes nothing if an uncommitted file would be
/// overwritten.
fn update_files(
    source: &Source,
    scratch: &Scratch,
    (old_commit, new_commit): (&str, &str),
    change: Change<'_>,
) -> Result<(), GitError> {
    check_no_overwrite(scratch, &source.root, old_commit, new_commit)?;
    let index = source.git_dir.join("index");
    let update = || {
        let update = scratch.work_tree_git("read-tree").args([
            "-m",
            "-u",
            "--no-recurse-submodules",
            old_commit,
            new_commit,
        ]);
        update.env("GIT_INDEX_FILE", &index).limit(WORK_LIMIT).run()
    };
    let mut updated = update()?;
    if updated.code != 0 {
        // Files that were written again with the same content count as changed until the index is refreshed.
        let refresh = scratch.work_tree_git("update-index").args(["-q", "--refresh"]);
        refresh.env("GIT_INDEX_FILE", &index).limit(WORK_LIMIT).run()?;
        updated = update()?;
    }
    if updated.code == 0 {
        return Ok(());
    }
    Err(GitError::refused(format!(
        "uncommitted files are in the way of {}, and nothing was changed ({}): commit or stash them, or use `relay apply`",
        change.branch,
        updated.message()
    )))
}
