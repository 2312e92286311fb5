//! Workspace of a job. It is opened once, so the job works in the folder that was checked, even if the path leads
//! elsewhere later.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use common::text_format::one_line;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, lstat, openat, stat};
use rustix::io::Errno;

use crate::sandbox_check::FileIdentity;

/// An open workspace folder.
#[derive(Debug, Clone)]
pub(crate) struct WorkspaceDir {
    path: String,
    fd: Arc<OwnedFd>,
    identity: FileIdentity,
}

impl WorkspaceDir {
    /// Opens a workspace, component by component, without following links.
    ///
    /// # Errors
    /// One line with the fault: the workspace is missing, a part of its path is a link, or no job may work there.
    pub(crate) fn open(path: &str, roots: &[String]) -> Result<Self, String> {
        let shown = one_line(path, 300);
        let is_outside = !roots.is_empty() && !roots.iter().any(|root| Path::new(path).starts_with(root));
        if is_outside {
            return Err(format!(
                "the workspace {shown} is not in a folder that jobs may work in: {}",
                one_line(&roots.join(", "), 300)
            ));
        }
        if Path::new(path).components().count() < 2 {
            return Err("the workspace is the root of the file system: choose a folder with -w".to_owned());
        }
        let fd = open_path(Path::new(path)).map_err(|error| match error {
            OpenFolderError::Link(link) => {
                format!(
                    "the workspace {shown} leads through the link {}: use the real path with -w",
                    one_line(&link, 300)
                )
            }
            OpenFolderError::Missing => format!("the workspace {shown} does not exist on the platform"),
            OpenFolderError::Other(error) => format!("the workspace {shown} can't be opened: {error}"),
        })?;
        let stat = fstat(&fd).map_err(|error| format!("the workspace {shown} can't be opened: {error}"))?;
        let identity = FileIdentity { dev: stat.st_dev, ino: stat.st_ino };
        Ok(Self { path: path.to_owned(), fd: Arc::new(fd), identity })
    }

    /// Returns the path that the workspace was opened with.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the identity of the folder.
    pub(crate) fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Returns true if a path leads to this folder.
    pub(crate) fn is_reached_by(&self, path: &Path) -> bool {
        stat(path).is_ok_and(|stat| FileIdentity { dev: stat.st_dev, ino: stat.st_ino } == self.identity)
    }

    /// Returns a path that leads to the folder in a forked child, until the child executes another program.
    pub(crate) fn inherited_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

impl AsFd for WorkspaceDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

enum OpenFolderError {
    Link(String),
    Missing,
    Other(io::Error),
}

fn open_path(path: &Path) -> Result<OwnedFd, OpenFolderError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // `O_PATH` works without read permission on the parent folders.
    let parent_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let is_plain = path
        .components()
        .all(|part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_)));
    if !is_plain || !path.is_absolute() {
        return Err(OpenFolderError::Other(io::Error::other("it is not a plain absolute path")));
    }
    let mut folder = openat(CWD, "/", parent_flags, Mode::empty())
        .map_err(|error| OpenFolderError::Other(error.into()))?;
    let mut opened_path = std::path::PathBuf::from("/");
    let mut parts = path.components().skip(1).peekable();
    while let Some(part) = parts.next() {
        opened_path.push(part);
        let flags = if parts.peek().is_some() { parent_flags } else { flags };
        folder = openat(&folder, part.as_os_str(), flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => OpenFolderError::Missing,
            // The kernel may report a link as "not a folder".
            Errno::NOTDIR | Errno::LOOP if is_link(&opened_path) => {
                OpenFolderError::Link(opened_path.display().to_string())
            }
            Errno::NOTDIR => OpenFolderError::Other(io::Error::other("it is not a folder")),
            error => OpenFolderError::Other(error.into()),
        })?;
    }
    Ok(folder)
}

/// Returns true for a link. Used only to choose the error message.
fn is_link(path: &Path) -> bool {
    lstat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_folder_without_links_in_its_path_is_opened_below_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("in/ws")).unwrap();
        fs::write(dir.join("in/file"), "").unwrap();
        std::os::unix::fs::symlink("ws", dir.join("in/link")).unwrap();
        std::os::unix::fs::symlink("in", dir.join("up")).unwrap();
        let roots = [dir.join("in").display().to_string()];
        let open = |path: &str| WorkspaceDir::open(&dir.join(path).display().to_string(), &roots);
        assert!(open("in/ws").is_ok() && open("in").is_ok());
        let refused = |path: &str| open(path).unwrap_err();
        assert!(refused("in/link").contains("through the link"), "{}", refused("in/link"));
        assert!(refused("in/missing").contains("does not exist"));
        assert!(refused("in/file").contains("not a folder"));
        assert!(refused("in/../in/ws").contains("not a plain"));
        assert!(refused("").contains("not in a folder"));
        let up = dir.join("up/ws").display().to_string();
        assert!(WorkspaceDir::open(&up, &[]).unwrap_err().contains(&dir.join("up").display().to_string()));
        assert!(WorkspaceDir::open("/", &[]).is_err());
    }
}
