//! Finds the git folders outside of a workspace that a job needs to commit there. Pure: a [`Disk`] provides the files.
//!
//! ```text
//!  entry                 kind      workspace                       folders that the job needs
//!  workspace/.git        folder    a repository                    none
//!  PARENT/.git           folder    a subfolder of a repository     PARENT/.git
//!  workspace/.git        file      a submodule                     the folder that the file names
//!  workspace/.git        file      a linked worktree               that folder, and the repository's own `.git`
//! ```
//!
//! A worker or a session may have written any of these files, so none of them is trusted. A `.git` file gives access
//! only to folders in which jobs may work, and only if the folder that it names contains a path back to it. Only a
//! program that can write that folder can have put this path there.

use std::fmt;
use std::path::{Path, PathBuf};

/// Maximum number of nested submodules.
const MAX_DEPTH: usize = 8;

/// Read access to the files and folders on the disk.
pub trait Disk {
    /// Returns the text of a small regular file; `None` for a symbolic link.
    fn read(&self, path: &Path) -> Option<String>;
    /// Returns the kind of an entry of a folder. A symbolic link is [`EntryKind::Other`].
    fn kind(&self, path: &Path) -> Option<EntryKind>;
    /// Returns the path of an existing entry with all symbolic links resolved.
    fn canonicalize(&self, path: &Path) -> Option<PathBuf>;
}

/// Kind of an entry of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link, or anything else.
    Other,
}

/// Reason why a job can't use git in its workspace. The text continues a sentence that begins with the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitLinkError {
    /// `.git` is not a folder or file that git creates.
    NotGit,
    /// The folder that the `.git` file names does not exist.
    Missing(PathBuf),
    /// The folder that the `.git` file names does not contain the path of the workspace.
    NotMutual(PathBuf),
    /// The repository is in a folder in which jobs may not work.
    Outside(PathBuf),
}

impl fmt::Display for GitLinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGit => f.write_str("has a .git that is neither a folder nor a file of git"),
            Self::Missing(path) => {
                let path = path.display();
                write!(f, "is a linked worktree or submodule, and its repository {path} does not exist")
            }
            Self::NotMutual(path) => write!(
                f,
                "is a linked worktree or submodule, and its repository {} does not name it: `git worktree repair` may \
                 help",
                path.display()
            ),
            Self::Outside(path) => write!(
                f,
                "is a linked worktree or submodule, and its repository {} is outside of the folders that jobs may write",
                path.display()
            ),
        }
    }
}

/// Returns the folders outside of the workspace that git writes to. `roots` are the folders in which jobs may work.
///
/// Returns no folder if there is no repository, if git writes only in the workspace, or if the repository's top folder
/// contains the roots: no job may work in such a repository.
///
/// # Errors
/// The reason why a job can't use git in the workspace.
pub fn git_folders(
    workspace: &Path,
    roots: &[PathBuf],
    disk: &dyn Disk,
) -> Result<Vec<PathBuf>, GitLinkError> {
    let is_allowed = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    // The root that the workspace is in. A repository around it, such as the project's, is not the workspace's.
    let own_root =
        roots.iter().filter(|root| workspace.starts_with(root)).max_by_key(|root| root.as_os_str().len());
    for folder in workspace.ancestors() {
        let git = folder.join(".git");
        let is_in_root = own_root.is_some_and(|root| folder.starts_with(root));
        match disk.kind(&git) {
            None => {}
            // Codex's sandbox can leave an empty `.git` behind.
            Some(EntryKind::Folder) if disk.kind(&git.join("HEAD")).is_none() => {}
            Some(EntryKind::Folder) => {
                let is_needed = folder != workspace && is_allowed(&git);
                return Ok(is_needed.then_some(git).into_iter().collect());
            }
            Some(kind) => {
                let found = match kind {
                    EntryKind::File => linked_folders(folder, disk),
                    _ => check_symlink(workspace, &git, disk),
                };
                let found = found.and_then(|found| match found.iter().find(|path| !is_allowed(path)) {
                    Some(outside) => Err(GitLinkError::Outside(outside.clone())),
                    None => Ok(found),
                });
                return if is_in_root { found } else { Ok(found.unwrap_or_default()) };
            }
        }
    }
    Ok(Vec::new())
}

/// Accepts a `.git` that is a symbolic link unless it leads out of the workspace. Git then needs no folder outside of the
/// workspace.
fn check_symlink(workspace: &Path, git: &Path, disk: &dyn Disk) -> Result<Vec<PathBuf>, GitLinkError> {
    match disk.canonicalize(git) {
        Some(target) if !target.starts_with(workspace) => Err(GitLinkError::NotGit),
        _ => Ok(Vec::new()),
    }
}

/// Returns the folder that the `.git` file of a submodule or linked worktree names. For a linked worktree, also returns
/// the `.git` of the repository itself.
///
/// # Errors
/// The file names no folder of git, or one that does not contain the path of `folder`.
pub fn linked_folders(folder: &Path, disk: &dyn Disk) -> Result<Vec<PathBuf>, GitLinkError> {
    linked_folders_at(folder, disk, 0)
}

fn linked_folders_at(folder: &Path, disk: &dyn Disk, depth: usize) -> Result<Vec<PathBuf>, GitLinkError> {
    let line = first_line(disk, &folder.join(".git")).ok_or(GitLinkError::NotGit)?;
    let target = line.strip_prefix("gitdir:").ok_or(GitLinkError::NotGit)?.trim();
    let git = folder.join(target);
    let git = disk.canonicalize(&git).ok_or(GitLinkError::Missing(git))?;
    let points_back = |back: PathBuf| disk.canonicalize(&back).is_some_and(|back| back == folder);
    let Some(common) = first_line(disk, &git.join("commondir")) else {
        let is_own = is_submodule(folder, &git, disk, depth)
            && core_worktree(&git, disk).is_some_and(|worktree| points_back(git.join(worktree)));
        return if is_own { Ok(vec![git]) } else { Err(GitLinkError::NotMutual(git)) };
    };
    let common = git.join(common);
    let common = disk.canonicalize(&common).ok_or(GitLinkError::Missing(common))?;
    // Git's folder for a linked worktree has a file `gitdir` with the path of the worktree's `.git`.
    let back = first_line(disk, &git.join("gitdir")).map(|back| git.join(back));
    let is_mutual = back.is_some_and(|back| {
        back.file_name().is_some_and(|name| name == ".git")
            && back.parent().is_some_and(|parent| points_back(parent.to_owned()))
    });
    let is_repository = disk.kind(&common.join("HEAD")) == Some(EntryKind::File)
        && disk.kind(&common.join("objects")) == Some(EntryKind::Folder);
    let is_own = is_mutual && is_repository && git.parent() == Some(&common.join("worktrees"));
    if is_own { Ok(vec![git, common]) } else { Err(GitLinkError::NotMutual(git)) }
}

/// Returns true if `git` is the git folder of a submodule of a repository whose work tree contains `folder`.
fn is_submodule(folder: &Path, git: &Path, disk: &dyn Disk, depth: usize) -> bool {
    folder.ancestors().skip(1).any(|ancestor| {
        let enclosing = ancestor.join(".git");
        let enclosing = match disk.kind(&enclosing) {
            Some(EntryKind::Folder) => Some(enclosing),
            Some(EntryKind::File) if depth < MAX_DEPTH => {
                linked_folders_at(ancestor, disk, depth + 1).ok().and_then(|found| found.into_iter().next())
            }
            _ => None,
        };
        enclosing.is_some_and(|enclosing| git.starts_with(enclosing.join("modules")))
    })
}

/// Returns the setting `core.worktree` of a submodule: the path of its work tree.
fn core_worktree(git: &Path, disk: &dyn Disk) -> Option<String> {
    let read = |name: &str| worktree_setting(&disk.read(&git.join(name))?);
    read("config.worktree").or_else(|| read("config"))
}

/// Returns the value of `core.worktree` in the text of git's settings file; the last one if there are several.
fn worktree_setting(settings: &str) -> Option<String> {
    let mut is_core = false;
    let mut found = None;
    for line in settings.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_core = section.trim_end_matches(']').trim().eq_ignore_ascii_case("core");
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_core)
            && key.trim().eq_ignore_ascii_case("worktree")
        {
            let value = value.trim();
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            found = Some(quoted.map_or_else(|| value.to_owned(), unescape));
        }
    }
    found
}

fn unescape(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

fn first_line(disk: &dyn Disk, path: &Path) -> Option<String> {
    disk.read(path)?.lines().next().map(str::to_owned)
}

#[cfg(test)]
#[path = "git_link_tests.rs"]
mod tests;
