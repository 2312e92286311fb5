//! Folders of git outside of a workspace that a job needs in order to commit there. Pure: a [`Disk`] provides the files.
//!
//! ```text
//!  workspace/.git      a folder    needs nothing
//!  around it           a folder    a subfolder of a repository: that `.git`
//!  .git                a file      a linked worktree or submodule: the folder that it names, and the shared one
//! ```
//!
//! A worker or a session may have written any of these files, so none of them is trusted: a `.git` file gives access
//! only to folders in which jobs may work, and only if the folder that it names points back to it. The author of
//! that pointer could already write there.

use std::fmt;
use std::path::{Path, PathBuf};

/// Maximum number of nested submodules.
const MAX_DEPTH: usize = 8;

/// Files and folders as they are on the disk.
pub trait Disk {
    /// Returns the text of a small regular file. Does not follow a link in the file's place.
    fn read(&self, path: &Path) -> Option<String>;
    /// Returns the kind of an entry. Does not follow a link in its place.
    fn kind(&self, path: &Path) -> Option<EntryKind>;
    /// Returns the path of an existing entry without links.
    fn canonicalize(&self, path: &Path) -> Option<PathBuf>;
}

/// Kind of an entry of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A link, or anything else.
    Other,
}

/// Reason why a job can't work with git in its workspace. The text ends a sentence that begins with the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitLinkError {
    /// The `.git` is not one that git makes.
    NotGit,
    /// The named folder does not exist.
    Missing(PathBuf),
    /// The named folder does not name the workspace.
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

/// Returns the folders outside of the workspace that git writes to; none if there is no repository, or if all its
/// folders are in the workspace. `roots` are the folders in which jobs may work.
///
/// A repository around the folders in which jobs may work is none of theirs: then there is no folder either.
///
/// # Errors
/// The reason why git can't work there.
pub fn git_folders(
    workspace: &Path,
    roots: &[PathBuf],
    disk: &dyn Disk,
) -> Result<Vec<PathBuf>, GitLinkError> {
    let is_allowed = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    // The folder of all workspaces lies in the project, whose repository is none of a workspace's.
    let territory =
        roots.iter().filter(|root| workspace.starts_with(root)).max_by_key(|root| root.as_os_str().len());
    for folder in workspace.ancestors() {
        let git = folder.join(".git");
        let is_own = territory.is_some_and(|territory| folder.starts_with(territory));
        match disk.kind(&git) {
            None => {}
            // A sandbox leaves an empty `.git` behind.
            Some(EntryKind::Folder) if disk.kind(&git.join("HEAD")).is_none() => {}
            Some(EntryKind::Folder) => {
                let is_needed = folder != workspace && is_allowed(&git);
                return Ok(is_needed.then_some(git).into_iter().collect());
            }
            Some(kind) => {
                let found = match kind {
                    EntryKind::File => linked_folders(folder, disk),
                    _ => link_target(workspace, &git, disk),
                };
                let found = found.and_then(|found| match found.iter().find(|path| !is_allowed(path)) {
                    Some(outside) => Err(GitLinkError::Outside(outside.clone())),
                    None => Ok(found),
                });
                return if is_own { found } else { Ok(found.unwrap_or_default()) };
            }
        }
    }
    Ok(Vec::new())
}

/// Handles a `.git` that is a link: git follows it, and so does a job if it stays in the workspace.
fn link_target(workspace: &Path, git: &Path, disk: &dyn Disk) -> Result<Vec<PathBuf>, GitLinkError> {
    match disk.canonicalize(git) {
        Some(target) if !target.starts_with(workspace) => Err(GitLinkError::NotGit),
        _ => Ok(Vec::new()),
    }
}

/// Returns the folder that the `.git` file of a folder names, and the folder of the repository if that is another one.
///
/// # Errors
/// The file names no folder of git, or one that does not point back.
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
        let is_own = is_module(folder, &git, disk, depth)
            && core_worktree(&git, disk).is_some_and(|worktree| points_back(git.join(worktree)));
        return if is_own { Ok(vec![git]) } else { Err(GitLinkError::NotMutual(git)) };
    };
    let common = git.join(common);
    let common = disk.canonicalize(&common).ok_or(GitLinkError::Missing(common))?;
    // The folder of a linked worktree contains the path of the worktree's `.git`.
    let back = first_line(disk, &git.join("gitdir")).map(|back| git.join(back));
    let names_folder = back.is_some_and(|back| {
        back.file_name().is_some_and(|name| name == ".git")
            && back.parent().is_some_and(|parent| points_back(parent.to_owned()))
    });
    let is_repository = disk.kind(&common.join("HEAD")) == Some(EntryKind::File)
        && disk.kind(&common.join("objects")) == Some(EntryKind::Folder);
    let is_own = names_folder && is_repository && git.parent() == Some(&common.join("worktrees"));
    if is_own { Ok(vec![git, common]) } else { Err(GitLinkError::NotMutual(git)) }
}

/// Returns true if a folder of git belongs to a submodule of a repository around `folder`.
fn is_module(folder: &Path, git: &Path, disk: &dyn Disk, depth: usize) -> bool {
    folder.ancestors().skip(1).any(|around| {
        let enclosing = around.join(".git");
        let enclosing = match disk.kind(&enclosing) {
            Some(EntryKind::Folder) => Some(enclosing),
            Some(EntryKind::File) if depth < MAX_DEPTH => {
                linked_folders_at(around, disk, depth + 1).ok().and_then(|found| found.into_iter().next())
            }
            _ => None,
        };
        enclosing.is_some_and(|enclosing| git.starts_with(enclosing.join("modules")))
    })
}

/// Returns the work tree in the settings of a submodule.
fn core_worktree(git: &Path, disk: &dyn Disk) -> Option<String> {
    let read = |name: &str| worktree_setting(&disk.read(&git.join(name))?);
    read("config.worktree").or_else(|| read("config"))
}

/// Returns `core.worktree` as git writes it.
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
