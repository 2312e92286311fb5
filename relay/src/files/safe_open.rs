//! Opening of files below a descriptor: links are never followed, opening never blocks, and each file is checked before
//! use.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::refused::{RefusalReason, RefusedEntry};

/// Maximum number of checks whether an opened file has a single name. On some file systems a published file has two
/// names for an instant.
const MAX_LINK_CHECKS: usize = 20;

const FOLDER_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const CAUTIOUS_FLAGS: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// File that was opened and checked.
pub(super) struct OpenedFile {
    pub(super) file: File,
    /// Length of the file when it was checked, in bytes.
    pub(super) length: u64,
}

impl OpenedFile {
    fn new(fd: OwnedFd, stat: &Stat) -> Self {
        Self { file: File::from(fd), length: u64::try_from(stat.st_size).unwrap_or(0) }
    }
}

#[derive(Debug)]
pub(super) struct OpenDir {
    pub(super) fd: OwnedFd,
    /// Required owner of every entry in the folder.
    pub(super) owner: u32,
}

impl OpenDir {
    /// Opens a folder by a path of names below `root`. Only `root` may contain links.
    pub(super) fn open_path(root: &Path, names: &[&str]) -> io::Result<Self> {
        let mut fd = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut path = root.to_owned();
        for name in names {
            path.push(name);
            fd = open_folder(fd.as_fd(), name, &path)?;
        }
        let owner = rustix::fs::fstat(&fd)?.st_uid;
        Ok(Self { fd, owner })
    }

    /// Opens any folder by its path.
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn at_path(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // Entries must belong to this user, not to the folder's owner: the system's temporary folders belong to root.
        Ok(Self { fd, owner: rustix::process::geteuid().as_raw() })
    }

    /// Opens a folder inside this one that has the same owner.
    pub(super) fn open_folder_in(&self, name: &str, path: &Path) -> io::Result<Self> {
        let fd = open_folder(self.fd.as_fd(), name, path)?;
        match RefusalReason::of_folder(&rustix::fs::fstat(&fd)?, self.owner) {
            Some(reason) => Err(RefusedEntry::error(path, reason)),
            None => Ok(Self { fd, owner: self.owner }),
        }
    }

    /// Opens a file for reading, even if another user owns it or it has several hard links.
    pub(super) fn open_any_file(&self, name: &Path, folder: &Path) -> io::Result<OpenedFile> {
        match rustix::fs::openat(&self.fd, name, OFlags::RDONLY | CAUTIOUS_FLAGS, Mode::empty()) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd)?;
                match RefusalReason::of_file(&stat, stat.st_uid)
                    .filter(|reason| *reason != RefusalReason::HardLink)
                {
                    None => Ok(OpenedFile::new(fd, &stat)),
                    Some(reason) => Err(RefusedEntry::error(&folder.join(name), reason)),
                }
            }
            // The error is the same as for files of the owner.
            Err(_) => self.open_own_file(name, OFlags::RDONLY, folder),
        }
    }

    /// Opens a file that belongs to the owner and has one name. `folder` is the path of this folder, for the text of a
    /// refusal.
    pub(super) fn open_own_file(&self, name: &Path, flags: OFlags, folder: &Path) -> io::Result<OpenedFile> {
        let refused = |reason| RefusedEntry::error(&folder.join(name), reason);
        let fd = match rustix::fs::openat(&self.fd, name, flags | CAUTIOUS_FLAGS, Mode::RUSR | Mode::WUSR) {
            Err(e @ (Errno::NOENT | Errno::EXIST)) => return Err(e.into()),
            Err(e) => {
                // The type of the entry is a better explanation than the error of the open.
                let reason =
                    rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok().and_then(|stat| {
                        let is_mode_closed = e == Errno::ACCESS && stat.st_mode & 0o600 != 0o600;
                        RefusalReason::of_file(&stat, self.owner)
                            .or(is_mode_closed.then_some(RefusalReason::OwnerDenied))
                    });
                return Err(reason.map_or_else(|| e.into(), refused));
            }
            Ok(fd) => fd,
        };
        for _ in 0..MAX_LINK_CHECKS {
            let stat = rustix::fs::fstat(&fd)?;
            match RefusalReason::of_file(&stat, self.owner) {
                None => return Ok(OpenedFile::new(fd, &stat)),
                Some(RefusalReason::HardLink) => std::thread::yield_now(),
                Some(reason) => return Err(refused(reason)),
            }
        }
        Err(refused(RefusalReason::HardLink))
    }
}

fn open_folder(parent: BorrowedFd<'_>, name: &str, path: &Path) -> io::Result<OwnedFd> {
    match rustix::fs::openat(parent, name, FOLDER_FLAGS, Mode::empty()) {
        Err(e @ (Errno::NOTDIR | Errno::LOOP | Errno::MLINK)) => {
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let reason = RefusalReason::of_folder(&stat, stat.st_uid);
            Err(reason.map_or_else(|| e.into(), |reason| RefusedEntry::error(path, reason)))
        }
        opened => Ok(opened?),
    }
}

/// Creates the missing folders that lead to the registry.
pub(super) fn create_folders(root: &Path, names: &[&str]) -> io::Result<()> {
    let mut fd = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut path = root.to_owned();
    for &name in names {
        path.push(name);
        match rustix::fs::mkdirat(&fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        fd = open_folder(fd.as_fd(), name, &path)?;
    }
    Ok(())
}

/// Renames a file without replacing an existing one.
pub(super) fn rename_no_replace(
    old_dir: BorrowedFd<'_>,
    old_name: &Path,
    new_dir: BorrowedFd<'_>,
    new_name: &Path,
) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(old_dir, old_name, new_dir, new_name, RenameFlags::NOREPLACE) {
        // Some file systems, such as NFS and some of FUSE, don't support this flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        renamed => return renamed,
    }
    match rustix::fs::linkat(old_dir, old_name, new_dir, new_name, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(old_dir, old_name, AtFlags::empty()),
        Err(e @ (Errno::EXIST | Errno::NOENT)) => Err(e),
        // The entry is not a file, or the file system has no hard links. An entry that appears under the new name
        // between this check and the rename is lost.
        Err(_) => match rustix::fs::statat(new_dir, new_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rustix::fs::renameat(old_dir, old_name, new_dir, new_name),
            Ok(_) => Err(Errno::EXIST),
            Err(e) => Err(e),
        },
    }
}
