//! The user's files as a git tree: those that `git add --all` would take, without any filter of the repository.
//!
//! A file that passes a filter (Git LFS, git-crypt and the like) is left as it was committed if it changed: its filter
//! is a program that relay must not run, and without the filter its content may be a secret or very large.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::GitError;
use super::command::{WORK_LIMIT, nul_fields, nul_joined, path_of};
use super::scratch::Scratch;
use super::source::Source;

/// Maximum size of all uncommitted files together, in bytes. More is mostly build output that should be ignored.
pub(super) const MAX_UNCOMMITTED_SIZE: u64 = 1 << 30;
/// Maximum number of paths named in a message.
const MAX_NAMED_PATHS: usize = 3;

/// The files of a work tree as a git tree.
#[derive(Debug)]
pub(super) struct WorkTree {
    /// Id of the tree.
    pub(super) tree: String,
    /// Notes about files that the tree does not contain as they are.
    pub(super) notes: Vec<String>,
}

/// Writes the files of the work tree into the scratch repository, whose index then matches the files.
pub(super) fn write_tree(scratch: &Scratch, source: &Source) -> Result<WorkTree, GitError> {
    scratch.copy_index(source)?;
    let (mut changed, mut notes) = (changed_files(scratch, &source.root)?, Vec::new());
    let new = scratch.work_tree_git("ls-files").args(["-z", "--others", "--exclude-standard"]);
    let new = new.limit(WORK_LIMIT).output()?;
    let (nested, files): (Vec<&[u8]>, Vec<&[u8]>) = nul_fields(&new).partition(|path| path.ends_with(b"/"));
    changed.extend(files.into_iter().map(path_of));
    if !nested.is_empty() {
        let names = format_paths(nested.iter().map(|path| path_of(path)));
        notes.push(format!("repositories inside of the work tree are left out: {names}"));
    }
    let filtered = filtered_files(scratch, &changed)?;
    if !filtered.is_empty() {
        let names = format_paths(filtered.iter().cloned());
        notes.push(format!("changed files with a filter (such as Git LFS) stay as committed: {names}"));
        changed.retain(|path| !filtered.contains(path));
    }
    check_files(&source.root, &changed)?;
    if !changed.is_empty() {
        let update = scratch.work_tree_git("update-index");
        let update = update.args(["--add", "--remove", "--replace", "-z", "--stdin"]);
        update.input(nul_joined(changed.iter().map(PathBuf::as_path))).limit(WORK_LIMIT).output()?;
    }
    let tree = scratch.work_tree_git("write-tree").arg("--missing-ok").text()?;
    Ok(WorkTree { tree, notes })
}

/// Returns the tracked files that differ from the index or are in conflict. Submodules are left out, because their new
/// commits exist nowhere else.
fn changed_files(scratch: &Scratch, root: &Path) -> Result<BTreeSet<PathBuf>, GitError> {
    let listed = scratch.work_tree_git("ls-files").args(["-z", "--modified"]).limit(WORK_LIMIT).output()?;
    let is_repository = |path: &PathBuf| fs::symlink_metadata(root.join(path).join(".git")).is_ok();
    Ok(nul_fields(&listed).map(path_of).filter(|path| !is_repository(path)).collect())
}

/// Returns those of the files in `changed` that have a filter.
fn filtered_files(scratch: &Scratch, changed: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>, GitError> {
    if changed.is_empty() {
        return Ok(BTreeSet::new());
    }
    let paths = nul_joined(changed.iter().map(PathBuf::as_path));
    let attributes = scratch.work_tree_git("check-attr").args(["-z", "--stdin", "filter"]);
    let attributes = attributes.input(paths).limit(WORK_LIMIT).output()?;
    let fields: Vec<&[u8]> = attributes.split(|byte| *byte == 0).collect();
    let is_set = |value: &[u8]| !matches!(value, b"unspecified" | b"unset" | b"");
    let triples = fields.chunks_exact(3).filter(|triple| is_set(triple[2]));
    Ok(triples.map(|triple| path_of(triple[0])).collect())
}

/// Checks that these paths are files, links or folders, and that all together are not too large.
fn check_files(root: &Path, files: &BTreeSet<PathBuf>) -> Result<(), GitError> {
    let mut total = 0_u64;
    for file in files {
        let Ok(meta) = fs::symlink_metadata(root.join(file)) else { continue };
        let kind = meta.file_type();
        if !(kind.is_file() || kind.is_symlink() || kind.is_dir()) {
            return Err(GitError::refused(format!(
                "{} is a pipe, socket or device: remove it, or leave out uncommitted files with --clean",
                printable_path(file)
            )));
        }
        total = total.saturating_add(if kind.is_file() { meta.len() } else { 0 });
    }
    if total > MAX_UNCOMMITTED_SIZE {
        return Err(GitError::refused(format!(
            "the uncommitted files have {} MiB, more than {} MiB: let .gitignore name what git should ignore, commit \
             the rest, or leave them out with --clean",
            total >> 20,
            MAX_UNCOMMITTED_SIZE >> 20
        )));
    }
    Ok(())
}

/// Formats the first few paths and the number of the others.
pub(super) fn format_paths(paths: impl ExactSizeIterator<Item = PathBuf>) -> String {
    let hidden = paths.len().saturating_sub(MAX_NAMED_PATHS);
    let mut names: Vec<String> = paths.take(MAX_NAMED_PATHS).map(|path| printable_path(&path)).collect();
    if hidden > 0 {
        names.push(format!("and {hidden} more"));
    }
    names.join(", ")
}

/// Formats a path for a message.
pub(super) fn printable_path(path: &Path) -> String {
    common::text_format::one_line(&String::from_utf8_lossy(path.as_os_str().as_bytes()), 100)
}
