//! Checks of a result's content: its size, and files that the user must know about before taking the result.

use std::path::PathBuf;

use super::GitError;
use super::command::{WORK_LIMIT, path_of};
use super::job_repository::JobRepository;
use super::snapshot::format_paths;

/// Maximum size of all new objects of a result, unpacked, in bytes: a small pack can hold very large files.
pub(super) const MAX_UNPACKED_SIZE: u64 = 8 << 30;
/// Beginning of a pointer to a file in Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Maximum size of a pointer to a file in Git LFS, in bytes.
const MAX_POINTER_SIZE: u64 = 1024;
/// Maximum number of changed files that are searched for pointers.
const MAX_SEARCHED_FILES: usize = 10_000;
/// Mode of a submodule in a tree.
const SUBMODULE_MODE: &[u8] = b"160000";

/// A file that a result adds or changes.
struct ChangedFile {
    path: PathBuf,
    mode: Vec<u8>,
    /// Object id of the file's content.
    id: String,
}

/// Refuses a commit whose new objects, compared to its parent, have more than `max_bytes` together.
///
/// # Errors
/// A refusal in one line with the size, and the errors of git.
pub(super) fn check_size(
    repository: &JobRepository,
    (parent, commit): (Option<&str>, &str),
    max_bytes: u64,
) -> Result<(), GitError> {
    let exclusion = parent.map(|parent| format!("^{parent}\n")).unwrap_or_default();
    let listed = repository.git("rev-list").args(["--objects", "--no-object-names", "--stdin"]);
    let listed = listed.input(format!("{commit}\n{exclusion}").into_bytes()).limit(WORK_LIMIT).output()?;
    let sizes = repository.git("cat-file").arg("--batch-check=%(objectsize)");
    let sizes = sizes.input(listed).limit(WORK_LIMIT).output()?;
    let numbers = sizes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let total: u64 = numbers.filter_map(|number| number.parse::<u64>().ok()).sum();
    if total <= max_bytes {
        return Ok(());
    }
    Err(GitError::refused(format!(
        "the result has {} MiB when unpacked, more than {} MiB, and is kept by relay",
        total >> 20,
        max_bytes >> 20
    )))
}

/// Returns notes about content that the branch of a result lacks, such as new commits of submodules.
pub(super) fn result_notes(
    repository: &JobRepository,
    (base, commit): (&str, &str),
) -> Result<Vec<String>, GitError> {
    let mut notes = Vec::new();
    if repository.git("ls-tree").arg(commit).output()?.is_empty() {
        notes.push("the worker deleted every file".to_owned());
    }
    let files = changed_files(repository, base, commit)?;
    let (submodules, files): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.mode == SUBMODULE_MODE);
    if !submodules.is_empty() {
        let names = format_paths(submodules.into_iter().map(|file| file.path));
        notes.push(format!("the new commits of submodules are not part of the result: {names}"));
    }
    let pointers = lfs_pointers(repository, files)?;
    if !pointers.is_empty() {
        let names = format_paths(pointers.into_iter());
        notes.push(format!(
            "files of Git LFS are pointers, and their content is not part of the result: {names}"
        ));
    }
    Ok(notes)
}

/// Lists the files of `commit` that differ from `base`.
fn changed_files(repository: &JobRepository, base: &str, commit: &str) -> Result<Vec<ChangedFile>, GitError> {
    let listed = repository.git("diff-tree").args(["-r", "-z", "--no-renames", "--no-abbrev", base, commit]);
    let listed = listed.limit(WORK_LIMIT).output()?;
    // `:OLD_MODE NEW_MODE OLD_ID NEW_ID STATUS`, NUL, path, NUL.
    let fields: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
    let file = |pair: &[&[u8]]| {
        let mut words = pair[0].split(|byte| *byte == b' ').skip(1);
        let mode = words.next()?.to_vec();
        let id = String::from_utf8(words.nth(1)?.to_vec()).ok()?;
        let exists = words.next()? != b"D";
        exists.then(|| ChangedFile { path: path_of(pair[1]), mode, id })
    };
    Ok(fields.chunks_exact(2).filter_map(file).collect())
}

/// Returns the files whose content is a pointer to a file in Git LFS.
fn lfs_pointers(repository: &JobRepository, mut files: Vec<ChangedFile>) -> Result<Vec<PathBuf>, GitError> {
    files.truncate(MAX_SEARCHED_FILES);
    let ids: Vec<&str> = files.iter().map(|file| file.id.as_str()).collect();
    let sizes =
        repository.git("cat-file").arg("--batch-check=%(objectsize)").input(join_lines(&ids)).output()?;
    let is_small = |line: &&[u8]| {
        let size = std::str::from_utf8(line).ok().and_then(|size| size.parse::<u64>().ok());
        size.is_some_and(|size| size <= MAX_POINTER_SIZE)
    };
    let sizes: Vec<&[u8]> = sizes.split(|byte| *byte == b'\n').collect();
    let small_files: Vec<&ChangedFile> =
        files.iter().zip(&sizes).filter(|(_, size)| is_small(size)).map(|(file, _)| file).collect();
    let ids: Vec<&str> = small_files.iter().map(|file| file.id.as_str()).collect();
    let contents =
        repository.git("cat-file").arg("--batch").input(join_lines(&ids)).limit(WORK_LIMIT).output()?;
    let mut unread = contents.as_slice();
    let mut pointers = Vec::new();
    for file in small_files {
        let Some((content, remainder)) = next_object(unread) else { break };
        if content.starts_with(LFS_POINTER) {
            pointers.push(file.path.clone());
        }
        unread = remainder;
    }
    Ok(pointers)
}

fn join_lines(ids: &[&str]) -> Vec<u8> {
    ids.iter().flat_map(|id| [id.as_bytes(), b"\n"].concat()).collect()
}

/// Splits the first object off the output of `cat-file --batch`: a line that ends with the size, the content, and a
/// line break.
fn next_object(output: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = output.iter().position(|byte| *byte == b'\n')?;
    let size = output[..end].rsplit(|byte| *byte == b' ').next()?;
    let size: usize = std::str::from_utf8(size).ok()?.parse().ok()?;
    let content = output.get(end + 1..end + 1 + size)?;
    Some((content, output.get(end + 2 + size..).unwrap_or_default()))
}
