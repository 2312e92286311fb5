//! Merges a job's result into the files of the user's work tree (three-way). Nothing is committed, and the user's index
//! stays as it is.

#![expect(clippy::disallowed_methods, reason = "lists folders of the user's work tree, not of the registry")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::GitError;
use super::command::{WORK_LIMIT, nul_fields, path_of};
use super::config::PersonSettings;
use super::job_repository::JobRepository;
use super::scratch::Scratch;
use super::snapshot;
use super::source::Source;

/// Name of the user's side in conflict markers.
const WORK_TREE: &str = "work-tree";
/// Exit code of a merge with conflicts.
const EXIT_CONFLICTS: i32 = 1;
/// Exit code of git for an option that it does not know.
const EXIT_UNKNOWN_OPTION: i32 = 129;

/// A change that was put into a work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedChange {
    /// Root of the work tree.
    pub root: PathBuf,
    /// Files that were changed, relative to the root.
    pub files: Vec<PathBuf>,
    /// Files that contain conflict markers, relative to the root.
    pub conflicts: Vec<PathBuf>,
}

/// A change: the commit before it, the commit that has it, and the name of its branch.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub base: &'a str,
    pub commit: &'a str,
    pub branch: &'a str,
}

/// Merges a change into the work tree that `workspace` lies in.
///
/// # Errors
/// Refuses what [`Source::find`] refuses, commits that don't exist, and a change that would overwrite other files.
/// Nothing is changed then.
pub fn apply(
    workspace: &Path,
    repository: &JobRepository,
    change: Change<'_>,
) -> Result<AppliedChange, GitError> {
    let source = Source::find(workspace)?;
    let scratch = open_scratch(&source, repository, change.commit)?;
    let ours = snapshot::write_tree(&scratch, &source)?.tree;
    let (merged, conflicts) = merge_trees(&scratch, &ours, change)?;
    let files = scratch.git("diff-tree").args(["-r", "-z", "--name-only", "--no-renames", &ours, &merged]);
    let files: Vec<PathBuf> = nul_fields(&files.limit(WORK_LIMIT).output()?).map(path_of).collect();
    if !files.is_empty() {
        update_files(&scratch, &source.root, &ours, &merged)?;
    }
    Ok(AppliedChange { root: source.root, files, conflicts })
}

/// Creates a scratch repository that has the result's commit.
pub(super) fn open_scratch(
    source: &Source,
    repository: &JobRepository,
    commit: &str,
) -> Result<Scratch, GitError> {
    let object_folders: Vec<PathBuf> =
        repository.exists().then(|| repository.objects()).into_iter().collect();
    let scratch = Scratch::new(source, &PersonSettings::read()?, &object_folders)?;
    if scratch.git("cat-file").args(["-e", &format!("{commit}^{{commit}}")]).run()?.code == 0 {
        return Ok(scratch);
    }
    let commit = &commit[..commit.len().min(12)];
    Err(GitError::refused(format!(
        "commit {commit} of the result is no longer in {}: its branch was removed there",
        source.root.display()
    )))
}

/// Merges the change into the tree `ours`; returns the merged tree and the files with conflicts.
fn merge_trees(
    scratch: &Scratch,
    ours: &str,
    change: Change<'_>,
) -> Result<(String, Vec<PathBuf>), GitError> {
    // Both sides become commits whose parent is the base. So the base is their merge base, even if the worker rewrote
    // its history.
    let side = |tree: &str| scratch.git("commit-tree").args([tree, "-p", change.base, "-m", "side"]).text();
    let (ours, theirs) = (side(ours)?, side(&format!("{}^{{tree}}", change.commit))?);
    // Git writes these names into the conflict markers.
    let result = if change.branch.starts_with(WORK_TREE) { "result" } else { change.branch };
    for (name, commit) in [(WORK_TREE, &ours), (result, &theirs)] {
        scratch.git("update-ref").args([&format!("refs/heads/{name}"), commit]).output()?;
    }
    let merge = scratch.git("merge-tree").args(["--write-tree", "-z", "--name-only", "--no-messages"]);
    let merged = merge.args([WORK_TREE, result]).limit(WORK_LIMIT).run()?;
    match merged.code {
        0 | EXIT_CONFLICTS => {}
        EXIT_UNKNOWN_OPTION => {
            return Err(GitError::refused(
                "this needs git 2.38 or newer: install it, or merge the branch by hand",
            ));
        }
        _ => return Err(merged.error("merge-tree")),
    }
    let mut fields = nul_fields(&merged.stdout);
    let tree = fields.next().map(|tree| String::from_utf8_lossy(tree).into_owned()).unwrap_or_default();
    let mut conflicts: Vec<PathBuf> = fields.map(path_of).collect();
    conflicts.dedup();
    Ok((tree, conflicts))
}

/// Checks that no file would be overwritten by an added one. Git itself would replace files that it ignores.
pub(super) fn check_no_overwrite(
    scratch: &Scratch,
    root: &Path,
    old_tree: &str,
    new_tree: &str,
) -> Result<(), GitError> {
    let list = |filter: &str| -> Result<BTreeSet<PathBuf>, GitError> {
        let files = scratch.git("diff-tree").args([
            "-r",
            "-z",
            "--name-only",
            "--no-renames",
            filter,
            old_tree,
            new_tree,
        ]);
        Ok(nul_fields(&files.limit(WORK_LIMIT).output()?).map(path_of).collect())
    };
    let (added, removed) = (list("--diff-filter=A")?, list("--diff-filter=D")?);
    match added.iter().find_map(|file| blocking_entry(root, file, &removed)) {
        None => Ok(()),
        Some(entry) => Err(GitError::refused(format!(
            "{} is in the way, and nothing was changed: commit, stash or move it first",
            snapshot::printable_path(&entry)
        ))),
    }
}

/// Returns the entry of the work tree that prevents the addition of `file`, but no entry that the change removes.
fn blocking_entry(root: &Path, file: &Path, removed: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let parents: Vec<&Path> = file.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    let remains = |path: &Path| !removed.contains(path);
    let is_no_folder = |path: &Path| fs::symlink_metadata(root.join(path)).is_ok_and(|meta| !meta.is_dir());
    if let Some(parent) = parents.into_iter().find(|path| is_no_folder(path) && remains(path)) {
        return Some(parent.to_owned());
    }
    match fs::symlink_metadata(root.join(file)) {
        Ok(meta) if meta.is_dir() => first_remaining_entry(root, file, removed),
        Ok(_) if remains(file) => Some(file.to_owned()),
        _ => None,
    }
}

/// Returns the first entry in a folder, or deeper, that is not among the removed files.
fn first_remaining_entry(root: &Path, folder: &Path, removed: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    fs::read_dir(root.join(folder)).ok()?.flatten().find_map(|entry| {
        let path = folder.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => first_remaining_entry(root, &path, removed),
            _ if removed.contains(&path) => None,
            _ => Some(path),
        }
    })
}

/// Changes the files of the work tree from one tree to another: all of them, or none if another file would be
/// overwritten.
fn update_files(scratch: &Scratch, root: &Path, old_tree: &str, new_tree: &str) -> Result<(), GitError> {
    check_no_overwrite(scratch, root, old_tree, new_tree)?;
    let update =
        scratch.work_tree_git("read-tree").args(["-m", "-u", "--no-recurse-submodules", old_tree, new_tree]);
    let updated = update.limit(WORK_LIMIT).run()?;
    if updated.code == 0 {
        return Ok(());
    }
    Err(GitError::refused(format!(
        "files are in the way, and nothing was changed ({}): move them away or commit them",
        updated.message()
    )))
}
