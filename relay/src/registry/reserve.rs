//! Room that is kept for the ends of jobs, so that they are recorded on a full disk too.
//!
//! ```text
//!            no room for an end             room again
//!   held ─────────────────────► given up ──────────────► held
//!   (SIZE bytes)                (empty file)
//! ```
//!
//! The file is emptied and not removed: that needs no room, and an empty one tells `relay launch` that the disk is full.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Registry;

/// Bytes that are kept: fifty jobs (the most that an agent runs at once) may end with a block of 4 KiB each for their last
/// events, and a record is replaced by a copy beside it, one at a time, of at most some ten KiB.
pub const SIZE: usize = 256 * 1024;

/// Whether the reserve was given up and the disk has no room for a new one. Cheap: `relay launch` asks.
pub fn is_given_up(registry: &Registry) -> bool {
    fs::metadata(registry.reserve()).is_ok_and(|reserve| reserve.len() == 0) && !has_room(registry)
}

/// Whether as much again as the reserve is free, so that whoever takes some leaves room for it.
fn has_room(registry: &Registry) -> bool {
    let free = rustix::fs::statvfs(registry.dir()).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    // Where the system does not tell, writing does.
    free.is_err() || free.is_ok_and(|free| free >= 2 * SIZE as u64)
}

/// Makes the reserve unless it is there, and finds out whether there is room for as much again: the room that a reserve
/// has made when it was given up is not room enough to take it back.
///
/// # Errors
/// When there is none.
pub fn make(registry: &Registry) -> io::Result<()> {
    let path = registry.reserve();
    let is_held = fs::metadata(&path).is_ok_and(|reserve| reserve.len() == SIZE as u64);
    let temporary = temporary(registry);
    let made = if is_held {
        write(&temporary, SIZE).and_then(|_| fs::remove_file(&temporary))
    } else {
        let twice = write(&temporary, 2 * SIZE);
        twice.and_then(|file| file.set_len(SIZE as u64)).and_then(|()| fs::rename(&temporary, &path))
    };
    if made.is_err() {
        // Half a reserve takes room and serves nobody.
        let _ = fs::remove_file(&temporary);
    }
    made
}

/// Makes the reserve where there is none. Quicker than [`make`] where there is one.
///
/// # Errors
/// When there is no room for it.
pub fn ensure(registry: &Registry) -> io::Result<()> {
    match fs::metadata(registry.reserve()) {
        Ok(reserve) if reserve.len() == SIZE as u64 => Ok(()),
        _ => make(registry),
    }
}

/// Gives the reserve up. Returns whether that freed any room.
pub fn give_up(registry: &Registry) -> bool {
    let given = || -> io::Result<bool> {
        let reserve = OpenOptions::new().write(true).open(registry.reserve())?;
        let was = reserve.metadata()?.len();
        reserve.set_len(0)?;
        Ok(was > 0)
    };
    given().unwrap_or(false)
}

fn temporary(registry: &Registry) -> PathBuf {
    registry.dir().join(".reserve.new")
}

/// Blocks that are not written are not reserved.
fn write(path: &Path, size: usize) -> io::Result<File> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, &vec![0; size])?;
    // A file system that allocates late says here that there is no room.
    file.sync_data()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_given_up_once_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(dir.path());
        registry.ensure().unwrap();
        let len = || fs::metadata(registry.reserve()).unwrap().len();
        ensure(&registry).unwrap();
        assert_eq!((len(), is_given_up(&registry)), (SIZE as u64, false));
        assert_eq!((give_up(&registry), give_up(&registry), len()), (true, false, 0));
        make(&registry).unwrap();
        make(&registry).unwrap();
        assert_eq!(len(), SIZE as u64);
        assert!(!temporary(&registry).exists());
    }
}
