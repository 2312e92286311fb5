//! Reader of the commit that a repository's `HEAD` names, without git: git might start only after a job's first commit.
//!
//! Workers can write the files that are read here. So the files are untrusted: only an object id is taken from them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use common::git_link;
use common::place::is_commit_id;
use rustix::fs::OFlags;

use crate::confine::repository::{RealDisk, read_line};

/// Maximum size of the list of packed references, in bytes. For a larger list, running git is faster.
const MAX_PACKED_REFS: u64 = 4 << 20;

/// State of a workspace's `HEAD`, as far as it can be read without git.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    NoRepository,
    /// The commit of the current branch or of a detached `HEAD`.
    Commit {
        /// Object id, in hexadecimal digits.
        id: String,
        /// True if the workspace is the top folder of its repository.
        is_top: bool,
    },
    /// Only git can find the commit: the branch has none, references have another format, or the repository is broken.
    Unclear,
}

/// Reads the commit of the repository around a workspace. Blocks on the disk.
pub(crate) fn read(workspace: &Path) -> Head {
    // Git ignores a folder without `HEAD`, such as the one that Codex's sandbox protects in `/tmp`.
    let has_git = |folder: &&Path| {
        let git = folder.join(".git");
        git.join("HEAD").symlink_metadata().is_ok()
            || git.symlink_metadata().is_ok_and(|found| !found.is_dir())
    };
    let Some(top) = workspace.ancestors().find(has_git) else { return Head::NoRepository };
    match head_commit(top) {
        Some(id) => Head::Commit { id, is_top: top == workspace },
        None => Head::Unclear,
    }
}

fn head_commit(top: &Path) -> Option<String> {
    let dot_git = top.join(".git");
    // A linked worktree has a `HEAD` of its own, and shares the branches with its repository.
    let folders =
        if dot_git.is_dir() { vec![dot_git] } else { git_link::linked_folders(top, &RealDisk).ok()? };
    let (own, shared) = (folders.first()?, folders.last()?);
    let head = read_line(&own.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref: ") else { return Some(head).filter(|id| is_commit_id(id)) };
    let is_branch =
        name.starts_with("refs/heads/") && !name.split('/').any(|part| matches!(part, "" | "." | ".."));
    if !is_branch {
        return None;
    }
    let loose = read_line(&shared.join(name));
    loose.or_else(|| packed_reference(shared.join("packed-refs"), name)).filter(|id| is_commit_id(id))
}

/// Finds a reference in the list of packed references, whose lines consist of an id, a space and a name.
fn packed_reference(list: PathBuf, name: &str) -> Option<String> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(list).ok()?;
    file.metadata().ok().filter(|meta| meta.is_file() && meta.len() <= MAX_PACKED_REFS)?;
    let mut text = String::new();
    file.take(MAX_PACKED_REFS).read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    fn git(folder: &Path, arguments: &[&str]) -> String {
        let settings =
            ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
        let output = Command::new("git").current_dir(folder).args(settings).args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Returns a repository with one commit, and the id of that commit.
    fn repository() -> (tempfile::TempDir, PathBuf, String) {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap().join("top");
        fs::create_dir_all(top.join("sub")).unwrap();
        git(&top, &["init", "-q"]);
        git(&top, &["commit", "-q", "--allow-empty", "-m", "one"]);
        let id = git(&top, &["rev-parse", "HEAD"]);
        (dir, top, id)
    }

    #[test]
    fn the_commit_is_the_one_that_git_reports() {
        let (_dir, top, first) = repository();
        let at = |id: &str, is_top| Head::Commit { id: id.to_owned(), is_top };
        assert_eq!((read(&top), read(&top.join("sub"))), (at(&first, true), at(&first, false)));
        git(&top, &["worktree", "add", "-q", "-b", "feature/tree", "../tree"]);
        let tree = top.with_file_name("tree");
        git(&tree, &["commit", "-q", "--allow-empty", "-m", "two"]);
        let second = git(&tree, &["rev-parse", "HEAD"]);
        assert_eq!((read(&tree), read(&top)), (at(&second, true), at(&first, true)));
        git(&top, &["pack-refs", "--all"]);
        assert!(!top.join(".git/refs/heads/main").exists());
        assert_eq!((read(&tree), read(&top)), (at(&second, true), at(&first, true)));
        git(&top, &["checkout", "-q", "--detach", &second]);
        assert_eq!(read(&top), at(&second, true));
    }

    #[test]
    fn an_unusual_or_broken_head_is_left_to_git() {
        let (dir, top, id) = repository();
        assert_eq!(read(&dir.path().canonicalize().unwrap()), Head::NoRepository);
        fs::write(top.join(".git/secret"), &id).unwrap();
        let heads = ["ref: refs/heads/unborn", "ref: refs/heads/../../secret", "ref: secret", "", "abc"];
        for head in heads {
            fs::write(top.join(".git/HEAD"), format!("{head}\n")).unwrap();
            assert_eq!(read(&top), Head::Unclear, "{head}");
        }
        fs::remove_file(top.join(".git/HEAD")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, top.join(".git/HEAD"), 0o600.into()).unwrap();
        assert_eq!(read(&top), Head::Unclear, "a pipe");
    }
}
