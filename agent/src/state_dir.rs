//! State directory of an agent. It contains the agent's id, its lock, its configuration and its spool.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum number of attempts to take the lock. All attempts together take 100 ms. A process that only checks the lock
/// holds it for microseconds.
const MAX_ATTEMPTS: u32 = 10;
/// Pause between two attempts to take the lock.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// File that the agent locks while it uses the directory. The file contains the agent's process id.
const LOCK_FILE: &str = "agent.lock";

/// A state directory that this process has locked.
#[derive(Debug)]
pub(crate) struct StateDir {
    /// Path of the directory.
    pub(crate) dir: PathBuf,
    /// Id of the agent, created once and then permanent.
    pub(crate) agent_id: String,
    /// Lock, which the kernel releases when the process ends, however it ends.
    lock: File,
}

impl StateDir {
    /// Returns true if the locked directory was removed or replaced. A later agent would not find the data in it.
    pub(crate) fn is_lost(&self) -> bool {
        let file_id = |meta: fs::Metadata| (meta.dev(), meta.ino());
        is_replaced(self.lock.metadata().map(file_id), fs::metadata(self.dir.join(LOCK_FILE)).map(file_id))
    }
}

/// Returns true if the file that this process holds is certainly not the current one. A disk error proves nothing.
fn is_replaced(locked: io::Result<(u64, u64)>, current: io::Result<(u64, u64)>) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    match (locked, current) {
        (Ok(locked), Ok(current)) => locked != current,
        (_, Err(error)) => matches!(error.kind(), NotFound | NotADirectory),
        (Err(_), Ok(_)) => false,
    }
}

/// Creates the directory if it is missing; other users can't read it.
pub(crate) fn create_state_dir(dir: &Path) -> Result<(), String> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(|error| format!("the state folder {} can't be made: {error}", dir.display()))
}

/// Locks the state directory for this process.
///
/// # Errors
/// One line that names the directory and says that it can't be used or that another agent holds it.
pub(crate) fn lock_state_dir(dir: &Path) -> Result<StateDir, String> {
    create_state_dir(dir)?;
    let path = dir.display();
    let unusable = |error: io::Error| format!("the state folder {path} can't be used: {error}");
    let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK_FILE));
    let mut lock = lock.map_err(unusable)?;
    if !try_lock(&lock).map_err(unusable)? {
        return Err(format!("another agent already uses the state folder {path}"));
    }
    // Programs can signal the holder of the lock: while the lock is held, this process id is valid.
    let pid = format!("{}\n", std::process::id());
    lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes())).map_err(unusable)?;
    let agent = read_or_create_agent_id(&dir.join("agent-id")).map_err(unusable)?;
    Ok(StateDir { dir: dir.to_owned(), agent_id: agent, lock })
}

/// Takes the lock. Retries, because a process that only checks whether an agent runs may hold the lock for a moment.
fn try_lock(lock: &File) -> io::Result<bool> {
    for _ in 0..MAX_ATTEMPTS {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => crate::shim::pause(RETRY_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// Returns the agent's id, and creates it if it is missing: 64 random bits, so that no two platforms of one relay ever
/// get the same id.
fn read_or_create_agent_id(path: &Path) -> io::Result<String> {
    if let Ok(text) = fs::read_to_string(path) {
        let id = text.trim();
        if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(id.to_owned());
        }
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let id = hex::encode(random);
    let new_path = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new_path)?;
    file.write_all(id.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new_path, path)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_lost_if_missing_or_replaced_but_not_on_a_disk_error() {
        let fails = |kind: io::ErrorKind| Err(kind.into());
        assert!(is_replaced(Ok((1, 2)), fails(io::ErrorKind::NotFound)));
        assert!(is_replaced(Ok((1, 2)), Ok((1, 3))));
        assert!(!is_replaced(Ok((1, 2)), Ok((1, 2))));
        for disk_error in [io::Error::from_raw_os_error(5), io::ErrorKind::OutOfMemory.into()] {
            assert!(!is_replaced(Ok((1, 2)), Err(disk_error)));
        }
        assert!(!is_replaced(fails(io::ErrorKind::Other), Ok((1, 2))));
    }

    #[test]
    fn only_one_agent_holds_the_directory_and_the_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = lock_state_dir(&path).unwrap();
        let refused = lock_state_dir(&path).unwrap_err();
        assert!(refused.contains(&path.display().to_string()), "{refused}");
        let id = first.agent_id.clone();
        let written = fs::read_to_string(path.join("agent.lock")).unwrap();
        assert_eq!(written, format!("{}\n", std::process::id()));
        drop(first);
        assert_eq!(lock_state_dir(&path).unwrap().agent_id, id);
    }
}
