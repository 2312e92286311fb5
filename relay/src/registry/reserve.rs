//! Room that is kept for the ends of jobs, so that they are recorded on a full disk too: bytes, and files of their own for
//! file systems that can hold only so many.
//!
//! ```text
//!            no room for an end                   room again
//!   held ───────────────────────────► given up ──────────────► held
//!   (SIZE bytes, SPARE empty files)   (an empty file)
//! ```
//!
//! The file is emptied and not removed: that needs no room, and an empty one tells `relay launch` that the disk is full.

use std::io::{self, Write};

use super::Registry;
use super::file_ref::FileRef;
use super::staged::Staged;

/// Bytes that are kept: fifty jobs (the most that an agent runs at once) may end with a block of 4 KiB each for their last
/// events, and a record is replaced by a copy beside it, one at a time, of at most some ten KiB.
pub const SIZE: usize = 256 * 1024;

/// Empty files that are kept. A record, a spec or a lease is replaced by a copy beside it, which is a file more for a moment;
/// a notice is a file more for good.
pub const SPARE: usize = 32;

/// Whether the reserve was given up and the disk has no room for a new one. Cheap: `relay launch` asks.
pub fn is_given_up(registry: &Registry) -> bool {
    registry.reserve().size() == Some(0) && !has_room(registry)
}

/// Whether as much again as the reserve is free, so that whoever takes some leaves room for it.
fn has_room(registry: &Registry) -> bool {
    // Where the system does not tell, writing does.
    let folder = registry.folder();
    folder.free().is_none_or(|free| free >= 2 * SIZE as u64) && has_files(registry)
}

/// Whether as many files again as the reserve has can be made.
pub fn has_files(registry: &Registry) -> bool {
    registry.folder().free_files().is_none_or(|free| free >= 2 * SPARE as u64)
}

fn spare(registry: &Registry) -> impl Iterator<Item = FileRef> {
    let staging = registry.staging();
    (0..SPARE).map(move |n| staging.file(format!("spare-{n}")))
}

/// Makes the spare files that are missing.
fn make_spare(registry: &Registry) -> io::Result<()> {
    for file in spare(registry) {
        match file.make() {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    if has_files(registry) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// Makes the reserve unless it is there, and finds out whether there is room for as much again: the room that a reserve
/// has made when it was given up is not room enough to take it back.
///
/// # Errors
/// When there is none.
pub fn make(registry: &Registry) -> io::Result<()> {
    make_spare(registry)?;
    let reserve = registry.reserve();
    // Dropped where that fails: half a reserve takes room and is of no use.
    if reserve.size() == Some(SIZE as u64) {
        return write(&reserve, SIZE).map(drop);
    }
    let mut twice = write(&reserve, 2 * SIZE)?;
    twice.file().set_len(SIZE as u64)?;
    twice.replace()
}

/// Makes the reserve where there is none. Quicker than [`make`] where there is one.
///
/// # Errors
/// When there is no room for it.
pub fn ensure(registry: &Registry) -> io::Result<()> {
    match registry.reserve().size() {
        Some(len) if len == SIZE as u64 => make_spare(registry),
        _ => make(registry),
    }
}

/// Gives the reserve up. Returns whether that freed any room.
pub fn give_up(registry: &Registry) -> bool {
    let given = || -> io::Result<bool> {
        let reserve = registry.reserve().open_to_write()?;
        let was = reserve.metadata()?.len();
        reserve.set_len(0)?;
        Ok(was > 0)
    };
    let removed = spare(registry).filter(|file| file.exists() && file.remove().is_ok()).count();
    given().unwrap_or(false) || removed > 0
}

/// Whether a call failed for want of room.
pub fn is_lacking(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Does something that a daemon needs to start; where there is no room for it, with that of the reserve.
///
/// # Errors
/// As the work.
pub fn with<T>(registry: &Registry, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match work() {
        Err(e) if is_lacking(&e) && give_up(registry) => work(),
        done => done,
    }
}

/// Blocks that are not written are not reserved.
fn write(reserve: &FileRef, size: usize) -> io::Result<Staged> {
    let mut staged = Staged::begin(reserve)?;
    staged.file().write_all(&vec![0; size])?;
    // A file system that allocates late says here that there is no room.
    staged.sync()?;
    Ok(staged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_given_up_once_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(dir.path());
        registry.ensure().unwrap();
        let len = || registry.reserve().size().unwrap();
        ensure(&registry).unwrap();
        assert_eq!((len(), is_given_up(&registry)), (SIZE as u64, false));
        let spares = || registry.staging().names().unwrap().len();
        assert_eq!(spares(), SPARE);
        assert_eq!((give_up(&registry), give_up(&registry), len(), spares()), (true, false, 0, 0));
        make(&registry).unwrap();
        make(&registry).unwrap();
        assert_eq!((len(), spares()), (SIZE as u64, SPARE));
        let hidden = |name: &String| name.starts_with(".reserve");
        assert!(!registry.folder().names().unwrap().iter().any(hidden));
    }
}
