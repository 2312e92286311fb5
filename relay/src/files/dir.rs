//! Folder of the registry that stays open. Entries are opened by name, relative to the descriptor of the folder, never
//! by path.
//!
//! ```text
//! ROOT ─ as given ─► platform ─ no link ─► workers ─ no link ─► requests, names, outbox, sessions, archive
//!                                             └─ the owner of this folder must own every opened entry
//! ```
//!
//! A session may replace any entry with anything. So an open never follows a link and never blocks, and the opened
//! entry is checked: only a regular file with a single name, or a folder, of the registry's owner is accepted. Any
//! other entry under a name that the registry needs is renamed to `.refused-NAME-N`. The rename affects neither the
//! target of a link nor the other name of a file.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::file_ref::FileRef;
use super::refused::{RefusalReason, RefusedEntry};
use super::safe_open::{self, OpenDir, OpenedFile};

/// Path components from the project root to the registry.
const REGISTRY_PATH: [&str; 2] = ["platform", "workers"];
/// Number of components of `REGISTRY_PATH` that lead to the settings folder.
const PLATFORM_DEPTH: usize = 1;
/// Prefix of the names of entries that were set aside.
pub const SET_ASIDE_PREFIX: &str = ".refused-";
/// Maximum number of bytes that are kept of the name of an entry that is set aside. With prefix and number, the new
/// name stays below 255 bytes.
const MAX_KEPT_NAME_BYTES: usize = 200;
/// Maximum number of set-aside entries per name; further attempts to set an entry aside fail.
pub const MAX_SET_ASIDE: u32 = 1000;

/// Folder of the registry, opened on first use. It stays the same folder even if its path leads elsewhere later.
#[derive(Debug, Clone)]
pub struct RegistryDir(Arc<DirState>);

#[derive(Debug)]
struct DirState {
    path: PathBuf,
    location: DirLocation,
    open_dir: OnceLock<OpenDir>,
}

#[derive(Debug)]
enum DirLocation {
    /// A folder on the path from a project root to the registry: the root, and the number of components below it.
    Project(PathBuf, usize),
    /// A subfolder of another folder, by its name.
    Subfolder(RegistryDir, String),
    /// Any folder, opened by its path.
    #[cfg(any(test, feature = "internals"))]
    AnyPath,
}

impl PartialEq for RegistryDir {
    fn eq(&self, other: &Self) -> bool {
        self.0.path == other.0.path
    }
}

impl Eq for RegistryDir {}

impl AsRef<Path> for RegistryDir {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}

impl RegistryDir {
    /// Returns the folder of the registry of the project at `root`.
    pub fn of_project(root: &Path) -> Self {
        Self::new(
            root.join(REGISTRY_PATH[0]).join(REGISTRY_PATH[1]),
            DirLocation::Project(root.to_owned(), REGISTRY_PATH.len()),
        )
    }

    /// Returns the project's settings folder, which contains the registry.
    pub fn of_settings(root: &Path) -> Self {
        Self::new(root.join(REGISTRY_PATH[0]), DirLocation::Project(root.to_owned(), PLATFORM_DEPTH))
    }

    /// Returns any folder by its path, for tests.
    #[cfg(any(test, feature = "internals"))]
    pub fn at_path(path: &Path) -> Self {
        Self::new(path.to_owned(), DirLocation::AnyPath)
    }

    fn new(path: PathBuf, location: DirLocation) -> Self {
        Self(Arc::new(DirState { path, location, open_dir: OnceLock::new() }))
    }

    /// Returns a handle on the same path that is opened again on first use.
    pub fn reopen(&self) -> Self {
        let location = match &self.0.location {
            DirLocation::Project(root, names) => DirLocation::Project(root.clone(), *names),
            DirLocation::Subfolder(parent, name) => DirLocation::Subfolder(parent.reopen(), name.clone()),
            #[cfg(any(test, feature = "internals"))]
            DirLocation::AnyPath => DirLocation::AnyPath,
        };
        Self::new(self.0.path.clone(), location)
    }

    /// Returns a folder inside this one. Each call returns its own handle, so that no descriptor stays open longer than
    /// needed.
    pub fn subfolder(&self, name: &str) -> Self {
        Self::new(self.0.path.join(name), DirLocation::Subfolder(self.clone(), name.to_owned()))
    }

    /// Returns a file in this folder. The name is a single component.
    pub fn file(&self, name: impl AsRef<Path>) -> FileRef {
        FileRef::new(self.clone(), self.0.path.join(name))
    }

    /// Returns the path, for display.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    fn open(&self) -> io::Result<&OpenDir> {
        if let Some(open) = self.0.open_dir.get() {
            return Ok(open);
        }
        let opened = match &self.0.location {
            DirLocation::Project(root, names) => OpenDir::open_path(root, &REGISTRY_PATH[..*names])?,
            DirLocation::Subfolder(parent, name) => parent.open()?.open_folder_in(name, &self.0.path)?,
            #[cfg(any(test, feature = "internals"))]
            DirLocation::AnyPath => OpenDir::at_path(&self.0.path)?,
        };
        // If another thread has opened the folder first, that thread's descriptor is used.
        Ok(self.0.open_dir.get_or_init(|| opened))
    }

    /// Returns true if the entry exists, is a folder and belongs to the registry's owner.
    ///
    /// # Errors
    /// Returns an error if the entry is something else, or can't be opened.
    pub fn exists(&self) -> io::Result<bool> {
        match self.open() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Creates the folder, private to its owner, and its missing parents below the project root. Another
    /// entry with its name is set aside.
    ///
    /// # Errors
    /// Returns an error if the folder can't be created, or if the registry belongs to another user.
    pub fn ensure(&self) -> io::Result<()> {
        match &self.0.location {
            DirLocation::Subfolder(parent, name) => self.ensure_subfolder(parent, name),
            DirLocation::Project(root, names) => {
                match self.open() {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        safe_open::create_folders(root, &REGISTRY_PATH[..*names])?;
                    }
                    opened => {
                        opened?;
                    }
                }
                self.writable_fd().map(drop)
            }
            #[cfg(any(test, feature = "internals"))]
            DirLocation::AnyPath => self.writable_fd().map(drop),
        }
    }

    fn ensure_subfolder(&self, parent: &Self, name: &str) -> io::Result<()> {
        let parent_fd = parent.writable_fd()?;
        match self.open() {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if RefusedEntry::from_error(&e).is_some() => parent.set_aside(name, &e)?,
            Err(e) => return Err(e),
        }
        match rustix::fs::mkdirat(parent_fd, name, Mode::RWXU) {
            // Another process created the folder first.
            Err(Errno::EXIST) | Ok(()) => self.open().map(drop),
            Err(e) => Err(e.into()),
        }
    }

    /// Checks that the folder belongs to this user. A missing subfolder is created again.
    ///
    /// # Errors
    /// Returns an error if the folder is absent, is not a folder, or belongs to another user.
    pub fn check_owner(&self) -> io::Result<()> {
        self.writable_fd().map(drop)
    }

    /// Returns true if this folder contains a folder of each of these names, and all belong to its owner.
    pub fn has_folders(&self, names: &[&str]) -> bool {
        let Ok(open) = self.open() else { return false };
        let is_owned_folder = |name: &&str| {
            self.stat(Path::new(name)).is_ok_and(|stat| RefusalReason::of_folder(&stat, open.owner).is_none())
        };
        names.iter().all(is_owned_folder)
    }

    fn dir_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.open().map(|open| open.fd.as_fd())
    }

    /// Returns the descriptor for writing; fails for the registry of another user.
    pub(super) fn writable_fd(&self) -> io::Result<BorrowedFd<'_>> {
        let open = match (self.open(), &self.0.location) {
            // A missing subfolder is created again, because it may have been replaced while a daemon uses it.
            (Err(e), DirLocation::Subfolder(parent, name))
                if e.kind() == io::ErrorKind::NotFound || RefusedEntry::from_error(&e).is_some() =>
            {
                self.ensure_subfolder(parent, name)?;
                self.open()?
            }
            (opened, _) => opened?,
        };
        if rustix::process::geteuid().as_raw() != open.owner {
            return Err(RefusedEntry::error(&self.0.path, RefusalReason::ForeignRegistry(open.owner)));
        }
        Ok(open.fd.as_fd())
    }

    /// Returns the names of the folder's entries, except names that are not UTF-8. An absent folder has no entries.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let fd = match self.dir_fd() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            fd => fd?,
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(fd)? {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Syncs the folder, so that the names of its entries survive a power loss.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.dir_fd()?)?)
    }

    /// Returns the free space on the folder's disk, in bytes; `None` if the system does not report it.
    pub fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::fstatvfs(self.dir_fd().ok()?).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Returns the number of files that can still be created on the folder's disk; `None` if the system does not report
    /// it or sets no bound.
    pub fn free_files(&self) -> Option<u64> {
        let disk = rustix::fs::fstatvfs(self.dir_fd().ok()?).ok()?;
        (disk.f_files > 0).then_some(disk.f_favail)
    }

    /// Returns the target of a link, as text.
    pub(super) fn read_link(&self, name: &Path) -> io::Result<std::ffi::CString> {
        Ok(rustix::fs::readlinkat(self.dir_fd()?, name, Vec::new())?)
    }

    /// Returns the metadata of the entry with this name; links are not followed.
    pub(super) fn stat(&self, name: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::statat(self.dir_fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(super) fn open_to_read(&self, name: &Path) -> io::Result<OpenedFile> {
        self.open()?.open_own_file(name, OFlags::RDONLY, &self.0.path)
    }

    /// Opens a file for reading, even if another user owns it or it has several hard links.
    pub(super) fn open_any_owner(&self, name: &Path) -> io::Result<OpenedFile> {
        self.open()?.open_any_file(name, &self.0.path)
    }

    /// Opens a file for writing. If a new file may be created, another entry with its name is set aside.
    pub(super) fn open_to_change(&self, name: &Path, flags: OFlags) -> io::Result<File> {
        self.writable_fd()?;
        let open = self.open()?;
        let opened = match open.open_own_file(name, flags, &self.0.path) {
            Err(e) if flags.contains(OFlags::CREATE) && RefusedEntry::from_error(&e).is_some() => {
                self.set_aside(name, &e)?;
                open.open_own_file(name, flags, &self.0.path)
            }
            opened => opened,
        };
        opened.map(|opened| opened.file)
    }

    pub(super) fn file_length(&self, name: &Path) -> io::Result<u64> {
        let (stat, owner) = (self.stat(name)?, self.open()?.owner);
        match RefusalReason::of_file(&stat, owner) {
            Some(reason) => Err(RefusedEntry::error(&self.0.path.join(name), reason)),
            None => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        }
    }

    /// Returns the reason to refuse the entry with this name; `None` for a file that may be opened, and for a missing
    /// entry.
    pub(super) fn refusal_reason(&self, name: &Path) -> io::Result<Option<RefusalReason>> {
        let owner = self.open()?.owner;
        match self.stat(name) {
            Ok(stat) => Ok(RefusalReason::of_file(&stat, owner)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Renames the entry with this name to an unused name and logs it. A missing entry is not an error.
    ///
    /// # Errors
    /// Returns `cause` if the entry can't be renamed.
    pub(super) fn set_aside(&self, name: impl AsRef<Path>, cause: &io::Error) -> io::Result<()> {
        let name = name.as_ref();
        let fd = self.writable_fd()?;
        let mut stem = name.as_os_str().as_encoded_bytes().to_vec();
        stem.truncate(MAX_KEPT_NAME_BYTES);
        for n in 1..MAX_SET_ASIDE {
            let new_name = [SET_ASIDE_PREFIX.as_bytes(), &stem, format!("-{n}").as_bytes()].concat();
            let new_name = PathBuf::from(OsString::from_vec(new_name));
            match safe_open::rename_no_replace(fd, name, fd, &new_name) {
                Ok(()) => {
                    tracing::warn!("{cause}; it was set aside as {}", self.0.path.join(new_name).display());
                    return Ok(());
                }
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(io::Error::other(format!("{cause} (it can't be set aside: {e})"))),
            }
        }
        Err(io::Error::other(cause.to_string()))
    }
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
