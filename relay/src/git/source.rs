//! The user's repository, found from a folder and checked.
//!
//! Git's own search is not used: it would trust the repository's configuration. `.git` is read as data, since a worker
//! may have written it. A `.git` file is followed only to a repository that points back, so that nothing in a project
//! can name another repository of the user for relay to read or change.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::place::{check_branch, is_commit_id};

use super::GitError;
use super::command::{self, Git};
use super::config::RepositorySettings;
use crate::bounded_file;

/// Maximum length of a file that contains one path, such as a `.git` file, in bytes.
const MAX_POINTER_LENGTH: u64 = 8192;

/// A repository of the user, and a folder in one of its work trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Root of the work tree, without links.
    pub root: PathBuf,
    /// Path of the folder from which the repository was found, relative to the root; empty for the root.
    pub subfolder: PathBuf,
    /// Git folder of this work tree.
    pub(super) git_dir: PathBuf,
    /// Git folder of the repository, which all its work trees share.
    pub(super) common_dir: PathBuf,
    pub(super) settings: RepositorySettings,
}

/// The commit that a work tree is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A commit; `branch` is its branch (`refs/heads/…`), unless HEAD is detached.
    Commit { id: String, branch: Option<String> },
    /// A branch without any commit yet.
    Unborn,
}

impl Source {
    /// Finds the repository of a folder.
    ///
    /// # Errors
    /// Refuses a folder in no repository, and what [`Source::search`] refuses.
    pub fn find(folder: &Path) -> Result<Self, GitError> {
        Self::search(folder)?.ok_or_else(|| {
            GitError::refused(format!(
                "{} is in no git repository: run `git init` and commit there, or use --in-place",
                folder.display()
            ))
        })
    }

    /// Finds the repository of a folder; `None` if the folder is in no repository.
    ///
    /// # Errors
    /// Refuses a bare repository, one of another user, and a `.git` that leads to a repository that doesn't point back.
    pub fn search(folder: &Path) -> Result<Option<Self>, GitError> {
        let shown = folder.display();
        let folder =
            folder.canonicalize().map_err(|e| GitError::io(&format!("{shown} can't be entered"), &e))?;
        for root in folder.ancestors() {
            let git = root.join(".git");
            let Ok(meta) = fs::symlink_metadata(&git) else {
                if is_git_dir(root) {
                    return Err(GitError::refused(format!(
                        "{} is a bare repository, without files to work on: clone it, and name the clone with -w",
                        root.display()
                    )));
                }
                continue;
            };
            let git_dir = if meta.is_dir() { git } else { linked_git_dir(root, &git, &meta)? };
            // Git ignores a folder of this name that holds no repository.
            if is_git_dir(&git_dir) {
                return Self::open(root, &folder, git_dir).map(Some);
            }
        }
        Ok(None)
    }

    /// Returns true if both are work trees of one repository.
    pub fn is_same_repository(&self, other: &Self) -> bool {
        self.common_dir == other.common_dir
    }

    fn open(root: &Path, folder: &Path, git_dir: PathBuf) -> Result<Self, GitError> {
        let common_dir = match read_pointer(&git_dir.join("commondir")) {
            Ok(path) => git_dir.join(path).canonicalize().map_err(|e| {
                GitError::io(&format!("the repository of {} can't be found", root.display()), &e)
            })?,
            Err(_) => git_dir.clone(),
        };
        for path in [root, &git_dir, &common_dir, &common_dir.join("objects")] {
            check_owner(path)?;
        }
        let settings = RepositorySettings::read(&git_dir, &common_dir)?;
        if settings.is_bare && git_dir == common_dir {
            return Err(GitError::refused(format!(
                "the repository {} is bare (core.bare): clone it, and name the clone with -w",
                git_dir.display()
            )));
        }
        let subfolder = folder.strip_prefix(root).unwrap_or(Path::new("")).to_owned();
        Ok(Self { root: root.to_owned(), subfolder, git_dir, common_dir, settings })
    }

    /// Returns the folder of the repository's objects.
    pub(super) fn objects(&self) -> PathBuf {
        self.common_dir.join("objects")
    }

    /// Returns the list of commits whose parents are missing, if the repository is shallow.
    pub(super) fn shallow_commits(&self) -> Option<Vec<u8>> {
        bounded_file::read_bounded(&self.common_dir.join("shallow")).ok().filter(|list| !list.is_empty())
    }

    /// Prepares a call of git on the repository itself. Only for commands that read or change refs.
    pub(super) fn refs_command(&self, subcommand: &str) -> Git {
        Git::new(&self.git_dir, subcommand)
    }

    /// Returns the commit that the work tree is at.
    ///
    /// # Errors
    /// HEAD can't be read, or leads to no commit although its branch exists.
    pub fn head(&self) -> Result<Head, GitError> {
        let branch = self.refs_command("symbolic-ref").args(["--quiet", "HEAD"]).run()?;
        let branch = (branch.code == 0)
            .then(|| String::from_utf8_lossy(&branch.stdout).trim_end_matches('\n').to_owned());
        if let Some(id) = self.resolve("HEAD")? {
            return Ok(Head::Commit { id, branch });
        }
        match branch {
            Some(branch) if !self.has_ref(&branch)? => Ok(Head::Unborn),
            _ => Err(GitError::refused(format!(
                "HEAD of {} leads to no commit: `git fsck` there shows what is damaged",
                self.root.display()
            ))),
        }
    }

    /// Returns the id of the commit that a revision names; `None` if it names none.
    pub(super) fn resolve(&self, revision: &str) -> Result<Option<String>, GitError> {
        let commit = format!("{revision}^{{commit}}");
        let found = self.refs_command("rev-parse");
        let found = found.args(["--verify", "--quiet", "--end-of-options", &commit]).run()?;
        let id = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        Ok((found.code == 0 && is_commit_id(&id)).then_some(id))
    }

    /// Returns true if a ref of this full name exists, even if the ref's object is missing.
    pub(super) fn has_ref(&self, name: &str) -> Result<bool, GitError> {
        let found = self.refs_command("rev-parse").args(["--verify", "--quiet", "--end-of-options", name]);
        Ok(found.run()?.code == 0)
    }

    /// Checks the name of a branch that does not exist yet.
    ///
    /// # Errors
    /// Refuses a name that git does not allow, and the name of an existing branch.
    pub fn check_new_branch(&self, branch: &str) -> Result<(), GitError> {
        check_branch(branch)
            .map_err(|why| GitError::refused(format!("{why}: choose another with --branch=NAME")))?;
        if self.has_ref(&format!("refs/heads/{branch}"))? {
            return Err(GitError::refused(format!(
                "branch {branch} exists already in {}: choose another name with --branch=NAME",
                self.root.display()
            )));
        }
        Ok(())
    }

    /// Returns true if the work tree has submodules.
    pub(super) fn has_submodules(&self) -> bool {
        fs::symlink_metadata(self.root.join(".gitmodules")).is_ok()
    }

    /// Returns true if `.gitattributes` at the root assigns files to Git LFS.
    pub(super) fn uses_lfs(&self) -> bool {
        let attributes = bounded_file::read_bounded(&self.root.join(".gitattributes")).unwrap_or_default();
        memchr::memmem::find(&attributes, b"filter=lfs").is_some()
    }
}

/// Returns true for a git folder: it has `HEAD`, and either `objects` and `refs` or a file `commondir`.
fn is_git_dir(dir: &Path) -> bool {
    let is_folder = |name: &str| dir.join(name).is_dir();
    let is_linked = || dir.join("commondir").is_file();
    fs::symlink_metadata(dir.join("HEAD")).is_ok()
        && (is_linked() || (is_folder("objects") && is_folder("refs")))
}

/// Returns the git folder that a `.git` file names, if that folder points back.
fn linked_git_dir(root: &Path, git: &Path, meta: &fs::Metadata) -> Result<PathBuf, GitError> {
    let refuse = |why: String| {
        GitError::refused(format!(
            "{} {why}: clone the repository, and name the clone with -w",
            git.display()
        ))
    };
    if !meta.is_file() {
        return Err(refuse("is neither a folder nor a file".to_owned()));
    }
    let unreadable = |e: &io::Error| refuse(format!("can't be read ({e})"));
    let bytes = bounded_file::read_beginning(git, MAX_POINTER_LENGTH).map_err(|e| unreadable(&e))?;
    let target = bytes.strip_prefix(b"gitdir:").map(|rest| command::path_of(rest.trim_ascii()));
    let target = target.ok_or_else(|| refuse("names no repository".to_owned()))?;
    let git_dir = root.join(&target).canonicalize();
    let git_dir = git_dir
        .map_err(|e| refuse(format!("leads to {}, which can't be entered ({e})", target.display())))?;
    // In a linked work tree, the git folder names the `.git` file.
    if let Ok(back) = read_pointer(&git_dir.join("gitdir")) {
        if git_dir.join(back).canonicalize().is_ok_and(|back| back == git) {
            return Ok(git_dir);
        }
    // In a submodule, the git folder lies in the git folder of an outer repository.
    } else if root.ancestors().skip(1).any(|outer| is_submodule_dir(&git_dir, &outer.join(".git"))) {
        return Ok(git_dir);
    }
    Err(refuse(format!("leads to {}, which does not point back", git_dir.display())))
}

/// Returns true if `git_dir` is the git folder of a submodule. `outer` is the `.git` of the work tree around it.
fn is_submodule_dir(git_dir: &Path, outer: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(outer) else { return false };
    if meta.is_dir() {
        return git_dir.starts_with(outer.join("modules"));
    }
    let root = outer.parent().unwrap_or(outer);
    linked_git_dir(root, outer, &meta).is_ok_and(|outer| {
        let common = read_pointer(&outer.join("commondir")).map(|common| outer.join(common));
        let common = common.ok().and_then(|common| common.canonicalize().ok()).unwrap_or(outer.clone());
        git_dir.starts_with(outer.join("modules")) || git_dir.starts_with(common.join("modules"))
    })
}

/// Reads a file that holds one path.
fn read_pointer(file: &Path) -> io::Result<PathBuf> {
    let bytes = bounded_file::read_beginning(file, MAX_POINTER_LENGTH)?;
    Ok(command::path_of(bytes.trim_ascii_end()))
}

fn check_owner(path: &Path) -> Result<(), GitError> {
    let meta = fs::metadata(path).map_err(|e| GitError::io(&path.display().to_string(), &e))?;
    if meta.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(GitError::refused(format!(
        "{} belongs to another user (id {}): clone the repository, and name the clone with -w",
        path.display(),
        meta.uid()
    )))
}

/// Formats a folder of objects as a line of the file `objects/info/alternates`.
pub(super) fn alternates_line(objects: &Path) -> Vec<u8> {
    let bytes = objects.as_os_str().as_bytes();
    let is_plain = |byte: u8| byte > b' ' && !matches!(byte, b'"' | b'\\' | 0x7f);
    let mut line = Vec::with_capacity(bytes.len() + 3);
    if bytes.iter().all(|byte| is_plain(*byte) || *byte == b' ') {
        line.extend_from_slice(bytes);
    } else {
        // Git quotes paths like this: unusual bytes are octal numbers.
        line.push(b'"');
        for byte in bytes {
            if is_plain(*byte) && byte.is_ascii() {
                line.push(*byte);
            } else {
                line.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
        }
        line.push(b'"');
    }
    line.push(b'\n');
    line
}
