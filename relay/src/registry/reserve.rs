//! Reserved disk space for job outcomes, so that they are recorded on a full disk too: bytes, and files of their own
//! for file systems with a bounded number of files.
//!
//! ```text
//!         no space for an outcome                space again
//!   held ───────────────────────────► given up ──────────────► held
//!   (RESERVE_SIZE bytes, SPARE_FILES files) (an empty file)
//! ```
//!
//! The file is emptied, not removed: that needs no space, and an empty file tells `relay launch` that the disk is full.

use std::io::{self, Write};

use super::Registry;
use crate::files::file_ref::FileRef;
use crate::files::staged::{Staged, is_lacking};

/// Reserved bytes. Fifty jobs (the most that an agent runs at once) may end with a block of 4 KiB each for their last
/// events, and records, each at most some ten KiB long, are replaced one at a time by a copy beside them.
pub const RESERVE_SIZE: usize = 256 * 1024;

/// Reserved empty files. Replacing a record, a spec or a lease needs one more file for a moment, for the copy beside
/// it; a completion notice needs one more for good.
pub const SPARE_FILES: usize = 32;

/// Returns true if the reserve was given up and the disk has no space for a new one. Cheap: `relay launch` calls it.
pub fn is_given_up(registry: &Registry) -> bool {
    registry.reserve().size() == Some(0) && !has_room(registry)
}

/// Returns true if twice the reserve is free, so that a writer that takes some leaves space for the reserve.
fn has_room(registry: &Registry) -> bool {
    // If the system does not report free space, the write itself finds out.
    let folder = registry.folder();
    folder.free().is_none_or(|free| free >= 2 * RESERVE_SIZE as u64) && has_files(registry)
}

/// Returns true if twice as many files as the reserve holds can be created.
pub fn has_files(registry: &Registry) -> bool {
    registry.folder().free_files().is_none_or(|free| free >= 2 * SPARE_FILES as u64)
}

fn spare(registry: &Registry) -> impl Iterator<Item = FileRef> {
    let staging = registry.staging();
    (0..SPARE_FILES).map(move |n| staging.file(format!("spare-{n}")))
}

/// Creates the missing spare files.
fn make_spare(registry: &Registry) -> io::Result<()> {
    for file in spare(registry) {
        match file.make() {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    if has_files(registry) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// Creates the reserve unless it exists, and checks that there is space for as much again: the space freed by giving a
/// reserve up is not enough to take it back.
pub fn make(registry: &Registry) -> io::Result<()> {
    make_spare(registry)?;
    let reserve = registry.reserve();
    // Dropped on failure: half a reserve takes space and is of no use.
    if reserve.size() == Some(RESERVE_SIZE as u64) {
        return write(&reserve, RESERVE_SIZE).map(drop);
    }
    let mut twice = write(&reserve, 2 * RESERVE_SIZE)?;
    twice.file().set_len(RESERVE_SIZE as u64)?;
    twice.replace()
}

/// Creates the reserve if it is absent. Faster than [`make`] if it exists.
pub fn ensure(registry: &Registry) -> io::Result<()> {
    match registry.reserve().size() {
        Some(len) if len == RESERVE_SIZE as u64 => make_spare(registry),
        _ => make(registry),
    }
}

/// Gives the reserve up. Returns true if that freed any space.
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

/// Runs work that a daemon needs to start. If it lacks disk space, gives the reserve up and retries.
pub fn with_reserve<T>(registry: &Registry, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match work() {
        Err(e) if is_lacking(&e) && give_up(registry) => work(),
        done => done,
    }
}

/// Writes a file of `size` bytes. Blocks must be written to be reserved.
fn write(reserve: &FileRef, size: usize) -> io::Result<Staged> {
    let mut staged = Staged::begin(reserve)?;
    staged.file().write_all(&vec![0; size])?;
    // A file system with delayed allocation reports a lack of space here.
    staged.sync()?;
    Ok(staged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_given_up_once_and_made_again() {
        let (_dir, registry) = Registry::temporary();
        let len = || registry.reserve().size().unwrap();
        ensure(&registry).unwrap();
        assert_eq!((len(), is_given_up(&registry)), (RESERVE_SIZE as u64, false));
        let spares = || registry.staging().names().unwrap().len();
        assert_eq!(spares(), SPARE_FILES);
        assert_eq!((give_up(&registry), give_up(&registry), len(), spares()), (true, false, 0, 0));
        make(&registry).unwrap();
        make(&registry).unwrap();
        assert_eq!((len(), spares()), (RESERVE_SIZE as u64, SPARE_FILES));
        let hidden = |name: &String| name.starts_with(".reserve");
        assert!(!registry.folder().names().unwrap().iter().any(hidden));
    }
}
