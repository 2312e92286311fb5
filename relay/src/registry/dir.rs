//! A folder of the registry, held open. Everything in it is reached by a single name below its descriptor, never by path.
//!
//! ```text
//! ROOT ─ as given ─► platform ─ no link ─► workers ─ no link ─► requests, names, outbox, sessions, archive
//!                                             └─ its owner is the owner of everything that is opened here
//! ```
//!
//! A session may put anything in the place of anything here. So an open never follows a link and never blocks, and what was
//! opened is looked at: only a regular file of the registry's owner with one name is taken, only a real folder of the
//! owner is entered. What else stands where the registry needs the name is renamed to `.refused-NAME-N`, which touches
//! neither the target of a link nor the other name of a file.

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
use super::opened::{self, Open};
use super::refused::{Reason, Refused};

/// The names below the project root that lead to the registry.
const WAY: [&str; 2] = ["platform", "workers"];
/// Path to the settings.
const PLATFORM: usize = 1;
/// How the names of what was set aside begin.
pub const ASIDE: &str = ".refused-";
/// Bytes of a name that are kept when its file is set aside: with prefix and number it stays below 255.
const KEPT_NAME: usize = 200;
/// Things of one name that are set aside before that is given up.
pub const MOST_ASIDE: u32 = 1000;
/// A folder, opened when it is first needed and from then on the same one, whatever its path leads to.
#[derive(Debug, Clone)]
pub struct Dir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    place: Place,
    open: OnceLock<Open>,
}

#[derive(Debug)]
enum Place {
    /// Below the root of a project, so many names on the way to its registry.
    Project(PathBuf, usize),
    /// A folder in another one.
    Below(Dir, String),
    /// Any folder, as given.
    #[cfg(any(test, feature = "internals"))]
    Given,
}

impl PartialEq for Dir {
    fn eq(&self, other: &Self) -> bool {
        self.0.path == other.0.path
    }
}

impl Eq for Dir {}

impl AsRef<Path> for Dir {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}

impl Dir {
    /// The registry of the project at `root`.
    pub fn of_project(root: &Path) -> Self {
        Self::new(root.join(WAY[0]).join(WAY[1]), Place::Project(root.to_owned(), WAY.len()))
    }

    /// The folder of the project's settings, which the registry is in.
    pub fn of_settings(root: &Path) -> Self {
        Self::new(root.join(WAY[0]), Place::Project(root.to_owned(), PLATFORM))
    }

    /// Any folder, for tests.
    #[cfg(any(test, feature = "internals"))]
    pub fn given(path: &Path) -> Self {
        Self::new(path.to_owned(), Place::Given)
    }

    fn new(path: PathBuf, place: Place) -> Self {
        Self(Arc::new(Inner { path, place, open: OnceLock::new() }))
    }

    /// The same folder, opened anew when it is needed.
    pub fn anew(&self) -> Self {
        let place = match &self.0.place {
            Place::Project(root, names) => Place::Project(root.clone(), *names),
            Place::Below(parent, name) => Place::Below(parent.anew(), name.clone()),
            #[cfg(any(test, feature = "internals"))]
            Place::Given => Place::Given,
        };
        Self::new(self.0.path.clone(), place)
    }

    /// A folder in this one. Each call gives one of its own, so that it is not held longer than it is used.
    pub fn sub(&self, name: &str) -> Self {
        Self::new(self.0.path.join(name), Place::Below(self.clone(), name.to_owned()))
    }

    /// A file in this folder. The name is a single one.
    pub fn file(&self, name: impl AsRef<Path>) -> FileRef {
        FileRef::new(self.clone(), self.0.path.join(name))
    }

    /// Where it is, to be shown.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    fn open(&self) -> io::Result<&Open> {
        if let Some(open) = self.0.open.get() {
            return Ok(open);
        }
        let opened = match &self.0.place {
            Place::Project(root, names) => Open::way(root, &WAY[..*names])?,
            Place::Below(parent, name) => parent.open()?.folder(name, &self.0.path)?,
            #[cfg(any(test, feature = "internals"))]
            Place::Given => Open::given(&self.0.path)?,
        };
        // Another thread may have been faster: its descriptor is as good.
        Ok(self.0.open.get_or_init(|| opened))
    }

    /// True if it exists, is a folder and belongs to the registry's owner.
    ///
    /// # Errors
    /// When it is something else, or can't be opened.
    pub fn is_there(&self) -> io::Result<bool> {
        match self.open() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes it, private to its owner, with what leads to it below the project root. What stands in its place is set aside.
    ///
    /// # Errors
    /// When it can't be made, and when the registry is another user's.
    pub fn ensure(&self) -> io::Result<()> {
        match &self.0.place {
            Place::Below(parent, name) => self.ensure_below(parent, name),
            Place::Project(root, names) => {
                match self.open() {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => opened::make_way(root, &WAY[..*names])?,
                    opened => {
                        opened?;
                    }
                }
                self.fd_to_change().map(drop)
            }
            #[cfg(any(test, feature = "internals"))]
            Place::Given => self.fd_to_change().map(drop),
        }
    }

    fn ensure_below(&self, parent: &Self, name: &str) -> io::Result<()> {
        let above = parent.fd_to_change()?;
        match self.open() {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if Refused::of(&e).is_some() => parent.set_aside(name, &e)?,
            Err(e) => return Err(e),
        }
        match rustix::fs::mkdirat(above, name, Mode::RWXU) {
            // Another process has made it.
            Err(Errno::EXIST) | Ok(()) => self.open().map(drop),
            Err(e) => Err(e.into()),
        }
    }

    /// True if it exists and this process may change it.
    ///
    /// # Errors
    /// When it is absent, no folder, or another user's.
    pub(super) fn is_own(&self) -> io::Result<()> {
        self.fd_to_change().map(drop)
    }

    /// True if all of these are folders in it, of its owner.
    pub(super) fn has_folders(&self, names: &[&str]) -> bool {
        let Ok(open) = self.open() else { return false };
        let is_one = |name: &&str| {
            self.stat(Path::new(name)).is_ok_and(|stat| Reason::of_folder(&stat, open.owner).is_none())
        };
        names.iter().all(is_one)
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.open().map(|open| open.fd.as_fd())
    }

    /// Its descriptor, for a change: the registry of another user is left as it is.
    pub(super) fn fd_to_change(&self) -> io::Result<BorrowedFd<'_>> {
        let open = match (self.open(), &self.0.place) {
            // A subfolder comes back by itself: it may have been replaced under the hands of a daemon.
            (Err(e), Place::Below(parent, name))
                if e.kind() == io::ErrorKind::NotFound || Refused::of(&e).is_some() =>
            {
                self.ensure_below(parent, name)?;
                self.open()?
            }
            (opened, _) => opened?,
        };
        if rustix::process::geteuid().as_raw() != open.owner {
            return Err(Refused::error(&self.0.path, Reason::Foreign(open.owner)));
        }
        Ok(open.fd.as_fd())
    }

    /// The names in it, without those that are no text. None are in a folder that is not there.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let fd = match self.fd() {
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

    /// Makes names in it survive a power loss.
    ///
    /// # Errors
    /// When it can't be opened or synced.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.fd()?)?)
    }

    /// Bytes that are free on its disk; `None` where the system does not tell.
    pub fn free(&self) -> Option<u64> {
        let disk = rustix::fs::fstatvfs(self.fd().ok()?).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Files that can still be made on its disk; `None` where the system does not tell or sets no bound.
    pub fn free_files(&self) -> Option<u64> {
        let disk = rustix::fs::fstatvfs(self.fd().ok()?).ok()?;
        (disk.f_files > 0).then_some(disk.f_favail)
    }

    /// Target of a link, as text.
    pub(super) fn read_link(&self, name: &Path) -> io::Result<std::ffi::CString> {
        Ok(rustix::fs::readlinkat(self.fd()?, name, Vec::new())?)
    }

    /// Metadata of the entry with this name; links are not followed.
    pub(super) fn stat(&self, name: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::statat(self.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Opens a file to read it.
    pub(super) fn open_to_read(&self, name: &Path) -> io::Result<File> {
        self.open()?.file(name, OFlags::RDONLY, &self.0.path)
    }

    /// Opens a file to read it, whosever it is and however many names it has.
    pub(super) fn open_any(&self, name: &Path) -> io::Result<File> {
        self.open()?.any_file(name, &self.0.path)
    }

    /// Opens a file to change it. What stands in its place is set aside where a new file may be made.
    pub(super) fn open_to_change(&self, name: &Path, flags: OFlags) -> io::Result<File> {
        self.fd_to_change()?;
        let open = self.open()?;
        match open.file(name, flags, &self.0.path) {
            Err(e) if flags.contains(OFlags::CREATE) && Refused::of(&e).is_some() => {
                self.set_aside(name, &e)?;
                open.file(name, flags, &self.0.path)
            }
            opened => opened,
        }
    }

    /// The length of a file.
    pub(super) fn len_of(&self, name: &Path) -> io::Result<u64> {
        let (stat, owner) = (self.stat(name)?, self.open()?.owner);
        match Reason::of_file(&stat, owner) {
            Some(reason) => Err(Refused::error(&self.0.path.join(name), reason)),
            None => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        }
    }

    /// Reason to refuse the entry with this name; `None` for a file that may be opened, and for no entry.
    pub(super) fn problem(&self, name: &Path) -> io::Result<Option<Reason>> {
        let owner = self.open()?.owner;
        match self.stat(name) {
            Ok(stat) => Ok(Reason::of_file(&stat, owner)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Renames the entry with this name to an unused one, and says so in the log. Something that is gone is fine.
    ///
    /// # Errors
    /// `why` itself, when it can't be renamed.
    pub(super) fn set_aside(&self, name: impl AsRef<Path>, why: &io::Error) -> io::Result<()> {
        let name = name.as_ref();
        let fd = self.fd_to_change()?;
        let mut stem = name.as_os_str().as_encoded_bytes().to_vec();
        stem.truncate(KEPT_NAME);
        for n in 1..MOST_ASIDE {
            let aside = [ASIDE.as_bytes(), &stem, format!("-{n}").as_bytes()].concat();
            let aside = PathBuf::from(OsString::from_vec(aside));
            match opened::rename_new(fd, name, fd, &aside) {
                Ok(()) => {
                    tracing::warn!("{why}; it was set aside as {}", self.0.path.join(aside).display());
                    return Ok(());
                }
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(io::Error::other(format!("{why} (it can't be set aside: {e})"))),
            }
        }
        Err(io::Error::other(why.to_string()))
    }
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
