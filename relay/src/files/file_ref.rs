//! A file of the registry: a name in a [`RegistryDir`]. Every operation on such a file goes through this type.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::dir::RegistryDir;
use super::refused::{RefusalReason, RefusedEntry};
use super::safe_open::{OpenedFile, rename_no_replace};

/// Name of a file in a folder of the registry. The file is not opened yet and need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    dir: RegistryDir,
    path: PathBuf,
}

impl AsRef<Path> for FileRef {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl FileRef {
    pub(super) fn new(dir: RegistryDir, path: PathBuf) -> Self {
        Self { dir, path }
    }

    /// Returns a file in any folder, for tests.
    #[cfg(any(test, feature = "internals"))]
    pub fn at_path(path: &Path) -> Self {
        RegistryDir::at_path(path.parent().unwrap_or(Path::new(".")))
            .file(path.file_name().unwrap_or_default())
    }

    /// Returns the path, for display.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path, formatted for printing.
    pub fn display(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Returns the folder that contains the file.
    pub fn dir(&self) -> &RegistryDir {
        &self.dir
    }

    /// Returns the last component of the path. The file is looked up by this name, in its folder.
    pub fn name(&self) -> &Path {
        Path::new(self.path.file_name().unwrap_or_default())
    }

    /// Returns a file in the same folder.
    pub fn sibling(&self, name: impl AsRef<OsStr>) -> Self {
        self.dir.file(Path::new(name.as_ref()))
    }

    /// Opens the file for reading.
    pub fn open(&self) -> io::Result<File> {
        self.dir.open_to_read(self.name()).map(|opened| opened.file)
    }

    /// Opens an existing file for writing.
    pub fn open_to_write(&self) -> io::Result<File> {
        self.dir.open_to_change(self.name(), OFlags::RDWR)
    }

    /// Opens the file for appending; creates it if it is absent.
    pub fn open_to_append(&self) -> io::Result<File> {
        self.dir.open_to_change(self.name(), OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
    }

    /// Opens the file for reading and writing; creates it if it is absent.
    pub fn open_or_create(&self) -> io::Result<File> {
        self.dir.open_to_change(self.name(), OFlags::RDWR | OFlags::CREATE)
    }

    /// Creates the file.
    ///
    /// # Errors
    /// Returns `AlreadyExists` when an entry has the name; otherwise the error of the failing call.
    pub fn create_new(&self) -> io::Result<File> {
        self.dir.open_to_change(self.name(), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Returns the metadata of the file.
    ///
    /// # Errors
    /// Returns an error if the file is absent or may not be opened.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.open()?.metadata()
    }

    /// Returns the length in bytes; `None` for a file that is absent or may not be opened. Faster than
    /// [`FileRef::metadata`].
    pub fn size(&self) -> Option<u64> {
        self.dir.file_length(self.name()).ok()
    }

    /// Returns true if an entry of any type has this name.
    pub fn exists(&self) -> bool {
        self.dir.stat(self.name()).is_ok()
    }

    /// Returns the reason to refuse the entry with this name, if any.
    pub fn refusal_reason(&self) -> io::Result<Option<RefusalReason>> {
        self.dir.refusal_reason(self.name())
    }

    /// Reads the whole file, which may have at most `max_bytes` bytes.
    ///
    /// # Errors
    /// Returns `FileTooLarge` for a longer file; otherwise the errors of [`FileRef::open`].
    pub fn read(&self, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.read_opened(self.dir.open_to_read(self.name())?, max_bytes)
    }

    /// Reads a file of any owner as text. It may have at most `max_bytes` bytes.
    ///
    /// # Errors
    /// Returns an error if the file is absent, not a regular file, too large, or not UTF-8.
    pub fn read_any_text(&self, max_bytes: u64) -> io::Result<String> {
        let bytes = self.read_opened(self.dir.open_any_owner(self.name())?, max_bytes)?;
        String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Reads a file up to the length that it had when it was opened: bytes appended later are not read.
    fn read_opened(&self, opened: OpenedFile, max_bytes: u64) -> io::Result<Vec<u8>> {
        let OpenedFile { mut file, length } = opened;
        if length > max_bytes {
            let text =
                format!("{} has more than {max_bytes} bytes and is not read: remove it", self.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read(&mut bytes[filled..]) {
                // The file was truncated meanwhile.
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Reads the whole file as text. It may have at most `max_bytes` bytes.
    ///
    /// # Errors
    /// Returns `InvalidData` when the text is not UTF-8; otherwise the errors of [`FileRef::open`].
    pub fn read_text(&self, max_bytes: u64) -> io::Result<String> {
        String::from_utf8(self.read(max_bytes)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Removes the entry with this name, which may also be a link or a special file. A folder is set aside. A missing
    /// entry is not an error.
    pub fn remove(&self) -> io::Result<()> {
        let fd = match self.dir.writable_fd() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            fd => fd?,
        };
        match rustix::fs::unlinkat(fd, self.name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => match self.refusal_reason()? {
                Some(reason) => self.set_aside(&RefusedEntry::error(&self.path, reason)),
                None => Err(e.into()),
            },
        }
    }

    /// Renames the file and replaces a file that has the new name.
    pub fn rename(&self, new_file: &Self) -> io::Result<()> {
        let (old_dir, new_dir) = (self.dir.writable_fd()?, new_file.dir.writable_fd()?);
        // A foreign entry under the new name is kept for inspection.
        if let Some(reason) = new_file.refusal_reason()? {
            new_file.set_aside(&RefusedEntry::error(&new_file.path, reason))?;
        }
        Ok(rustix::fs::renameat(old_dir, self.name(), new_dir, new_file.name())?)
    }

    /// Renames the file to an unused name. An entry in the way that is not a file of the registry is set aside.
    ///
    /// # Errors
    /// Returns `AlreadyExists` when a file has the new name; otherwise the error of the failing call.
    pub fn rename_no_replace(&self, new_file: &Self) -> io::Result<()> {
        let (old_dir, new_dir) = (self.dir.writable_fd()?, new_file.dir.writable_fd()?);
        match rename_no_replace(old_dir, self.name(), new_dir, new_file.name()) {
            Err(Errno::EXIST) => match new_file.refusal_reason()? {
                Some(reason) => {
                    new_file.set_aside(&RefusedEntry::error(&new_file.path, reason))?;
                    Ok(rename_no_replace(old_dir, self.name(), new_dir, new_file.name())?)
                }
                None => Err(Errno::EXIST.into()),
            },
            renamed => Ok(renamed?),
        }
    }

    /// Creates a symbolic link under this name, to a name in the same folder.
    ///
    /// # Errors
    /// Returns `AlreadyExists` when an entry has the name; otherwise the error of the failing call.
    pub fn create_link(&self, target: &str) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, self.dir.writable_fd()?, self.name())?)
    }

    /// Renames the link and replaces a link or a file that has the new name.
    pub fn rename_link(&self, new_file: &Self) -> io::Result<()> {
        if let Ok(Some(reason @ (RefusalReason::Directory | RefusalReason::HardLink))) =
            new_file.refusal_reason()
        {
            new_file.set_aside(&RefusedEntry::error(&new_file.path, reason))?;
        }
        let (old_dir, new_dir) = (self.dir.writable_fd()?, new_file.dir.writable_fd()?);
        Ok(rustix::fs::renameat(old_dir, self.name(), new_dir, new_file.name())?)
    }

    /// Returns the target of the link, as text. The target is not looked up.
    pub fn read_link(&self) -> io::Result<String> {
        let target = self.dir.read_link(self.name())?;
        target.into_string().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Renames the entry with this name to an unused name.
    pub fn set_aside(&self, cause: &io::Error) -> io::Result<()> {
        self.dir.set_aside(self.name(), cause)
    }
}
