//! Replacing a file in one step, so that readers see the old or the new one and never half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Whether the bytes must survive a power loss before the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// They must.
    Synced,
    /// They can be made again from something that does.
    Cached,
}

/// Replaces `path`, with mode 0600.
///
/// # Errors
/// The first failing call; the old file is then untouched.
pub fn replace(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let temporary = temporary(path);
    let written = write_new(&temporary, bytes, durability).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the name is reused by the next attempt.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates `path` with mode 0600, whole from its first moment on. Its name survives a power loss after [`sync_dir`].
///
/// # Errors
/// `AlreadyExists` when it is there; otherwise the first failing call.
pub fn create(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let staged = Staged::write(path, bytes)?;
    if durability == Durability::Synced {
        staged.sync()?;
    }
    staged.publish()
}

/// A file that is written and has no name that anybody looks for yet; dropping it takes it back.
///
/// Files that belong together are written first and synced then: the second sync finds most of its work done.
pub struct Staged {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Staged {
    /// Writes the file that will be `path`.
    ///
    /// # Errors
    /// The first failing call.
    pub fn write(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let temporary = temporary(path);
        let mut file = open_new(&temporary)?;
        let written = file.write_all(bytes);
        let staged = Self { file, temporary, path: path.to_owned() };
        written.map(|()| staged)
    }

    /// Makes its bytes survive a power loss.
    ///
    /// # Errors
    /// When they can't be synced.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` when somebody has the name.
    pub fn publish(self) -> io::Result<()> {
        fs::hard_link(&self.temporary, &self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Best effort: the name is reused by the next attempt.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Makes names in `dir` survive a power loss.
///
/// # Errors
/// When the folder can't be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Hidden, and beside its target: `rename` works within one file system only. The process id keeps writers apart.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn write_new(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = open_new(path)?;
    file.write_all(bytes)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    Ok(())
}

/// Opens a file for writing, empty and private.
///
/// # Errors
/// When it can't be opened.
pub fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
