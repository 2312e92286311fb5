//! A file of the registry that is written beside its place, so that readers see the old or the new one and never half of it.
//!
//! ```text
//! .NAME.PID, locked ─ write, sync ─► NAME    replace: in the place of what is there
//!     │                                      publish: only where nothing is
//!     └─ its process dies: the lock is gone, and the next daemon or launch removes it
//! ```

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::atomic::Durability;
use super::dir::Dir;
use super::file_ref::FileRef;
use super::reserve;

/// Hidden names that are tried: what is left of a process that had the same number, or of a second thread.
const ATTEMPTS: u32 = 100;
/// Together as long as such a look takes on a busy machine.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// Age below which a temporary file that can't be locked, or is still empty, counts as in use.
const SPARED: Duration = Duration::from_secs(3600);

/// A file that is written and has only a temporary name yet; dropping it takes it back.
///
/// Files that belong together are written first and synced then: the second sync finds most of its work done.
#[derive(Debug)]
pub struct Staged {
    file: File,
    temporary: Option<FileRef>,
    target: FileRef,
}

impl Staged {
    /// Begins a file that will be `target`, beside it.
    ///
    /// # Errors
    /// The first failing call.
    pub fn begin(target: &FileRef) -> io::Result<Self> {
        Self::begin_in(target.dir(), target)
    }

    /// Begins a file that will be `target` in another folder of the same disk.
    ///
    /// # Errors
    /// The first failing call.
    pub fn begin_in(dir: &Dir, target: &FileRef) -> io::Result<Self> {
        let (name, pid) = (target.name().display(), std::process::id());
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..ATTEMPTS {
            let temporary = match attempt {
                0 => dir.file(format!(".{name}.{pid}")),
                attempt => dir.file(format!(".{name}.{pid}.{attempt}")),
            };
            match temporary.make() {
                Ok(file) => {
                    lock(&file);
                    return Ok(Self { file, temporary: Some(temporary), target: target.clone() });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }

    /// Writes the file that will be `target`, beside it.
    ///
    /// # Errors
    /// The first failing call.
    pub fn write(target: &FileRef, bytes: &[u8]) -> io::Result<Self> {
        let mut staged = Self::begin(target)?;
        staged.file.write_all(bytes)?;
        Ok(staged)
    }

    /// The same, in another folder of the same disk.
    ///
    /// # Errors
    /// The first failing call.
    pub fn write_in(dir: &Dir, target: &FileRef, bytes: &[u8]) -> io::Result<Self> {
        let mut staged = Self::begin_in(dir, target)?;
        staged.file.write_all(bytes)?;
        Ok(staged)
    }

    /// To write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes its bytes survive a power loss.
    ///
    /// # Errors
    /// When they can't be synced.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives it its name, where nothing has that. The file stays locked until what is returned is dropped.
    ///
    /// # Errors
    /// `AlreadyExists` when a file has the name.
    pub fn publish(mut self) -> io::Result<File> {
        if let Some(temporary) = &self.temporary {
            temporary.rename_new(&self.target)?;
            self.temporary = None;
        }
        self.file.try_clone()
    }

    /// Gives it its name, in the place of what has that.
    ///
    /// # Errors
    /// The failing call; the old file is then untouched.
    pub fn replace(mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            temporary.rename(&self.target)?;
            self.temporary = None;
        }
        Ok(())
    }
}

/// Locks a file that was just made. A search for leftovers may hold it for an instant; where the disk knows
/// no locks, nothing of it is ever taken for that.
fn lock(file: &File) {
    for _ in 0..LOCK_TRIES {
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        std::thread::park_timeout(LOCK_PAUSE);
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Best effort: what stays is removed once this process is gone.
            let _ = temporary.remove();
        }
    }
}

impl FileRef {
    /// Replaces it in one step, with mode 0600.
    ///
    /// # Errors
    /// The first failing call; the old file is then untouched.
    pub fn replace(&self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let staged = Staged::write(self, bytes)?;
        if durability == Durability::Synced {
            staged.sync()?;
        }
        staged.replace()
    }

    /// Replaces it; where the disk has no room for a copy, writes over it in one call, with spaces behind shorter bytes
    /// until they are cut off. For small files whose readers pass over what they can't read.
    ///
    /// # Errors
    /// The first failing call.
    pub fn replace_or_overwrite(&self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let lacking = match self.replace(bytes, durability) {
            Err(e) if reserve::is_lacking(&e) => e,
            replaced => return replaced,
        };
        let file = self.open_to_write().map_err(|_| lacking)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        let mut padded = bytes.to_vec();
        padded.resize(len.max(bytes.len()), b' ');
        file.write_all_at(&padded, 0)?;
        file.set_len(bytes.len() as u64)?;
        if durability == Durability::Synced { file.sync_data() } else { Ok(()) }
    }

    /// Makes it with mode 0600, whole from its first moment on. Its name survives a power loss after [`Dir::sync`].
    ///
    /// # Errors
    /// `AlreadyExists` when it is there; otherwise the first failing call.
    pub fn create(&self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let staged = Staged::write(self, bytes)?;
        if durability == Durability::Synced {
            staged.sync()?;
        }
        staged.publish().map(drop)
    }

    /// True if the writer has died: writers hold their files locked.
    pub fn is_left_behind(&self, now: SystemTime) -> bool {
        let Ok(file) = self.open() else { return false };
        let Ok(known) = file.metadata() else { return false };
        let age = known.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
        match file.try_lock() {
            // It is locked in the instant after it was made.
            Ok(()) => known.len() > 0 || age > SPARED,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_)) => age > SPARED,
        }
    }
}

/// Removes the hidden files in a folder that processes have left behind which died while they wrote them. What can't be
/// removed stays until the next time.
pub fn sweep(dir: &Dir, now: SystemTime) {
    for name in dir.names().unwrap_or_default() {
        if is_temporary(&name) && dir.file(&name).is_left_behind(now) {
            let _ = dir.file(&name).remove();
        }
    }
}

/// True for a name that [`Staged`] gives: hidden, with a process id at its end.
fn is_temporary(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.starts_with('.')
        && !name.starts_with(super::dir::ASIDE)
        && name.rsplit_once('.').is_some_and(|(rest, end)| rest.len() > 1 && number(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::given(folder.path());
        let written = Staged::write(&dir.file("a.1.spec"), b"secret").unwrap();
        std::fs::write(folder.path().join(".a.2.spec.77"), "secret").unwrap();
        std::fs::write(folder.path().join(".a.3.spec.77.1"), "secret").unwrap();
        std::fs::write(folder.path().join(".gitignore"), "*").unwrap();
        std::fs::write(folder.path().join(".refused-x-1"), "kept").unwrap();
        std::fs::write(folder.path().join(".b.1.spec.78"), "").unwrap();
        let old = SystemTime::now() + SPARED * 2;
        sweep(&dir, SystemTime::now());
        let left = || {
            let mut names = dir.names().unwrap();
            names.sort();
            names
        };
        let own = format!(".a.1.spec.{}", std::process::id());
        assert_eq!(left(), [own.as_str(), ".b.1.spec.78", ".gitignore", ".refused-x-1"]);
        written.publish().unwrap();
        sweep(&dir, old);
        assert_eq!(left(), [".gitignore", ".refused-x-1", "a.1.spec"]);
    }
}
