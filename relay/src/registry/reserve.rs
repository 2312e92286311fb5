//! The reserve: disk space that is reserved for job outcomes, so that they are recorded on a full disk, too. It
//! consists of bytes, and of spare files for file systems with a limited number of inodes.
//!
//! ```text
//!         no space for an outcome                space again
//!   held ───────────────────────────► released ──────────────► held
//!   (RESERVE_SIZE bytes, SPARE_FILES files) (an empty file)
//! ```
//!
//! The file with the bytes is truncated, not removed: that needs no space, and the empty file shows `relay launch` that
//! the disk is full.

use std::io::{self, Write};

use super::Registry;
use crate::files::file_ref::FileRef;
use crate::files::staged::{StagedFile, is_out_of_space};

/// Number of reserved bytes. They suffice for the last events of an agent's jobs, at most fifty, with a block of 4 KiB
/// each, and for the copy of one record of some ten KiB.
pub const RESERVE_SIZE: usize = 256 * 1024;

/// Number of spare files, which are empty. Replacing a record, a spec or a lease needs another file for a moment, for
/// the new content; a completion notice needs another file for good.
pub const SPARE_FILES: usize = 32;

/// Returns true if the reserve was released and can't be created again. Must be fast: `relay launch` calls it.
pub fn is_released(registry: &Registry) -> bool {
    registry.reserve().size() == Some(0) && !has_space_for_reserve(registry)
}

/// Returns true if twice the size of the reserve is free, so that enough is left after another write.
fn has_space_for_reserve(registry: &Registry) -> bool {
    // If the system does not report free space, the write itself may fail.
    let folder = registry.folder();
    folder.free_bytes().is_none_or(|free| free >= 2 * RESERVE_SIZE as u64) && has_inodes_for_reserve(registry)
}

/// Returns true if twice as many files as the reserve has can be created.
pub fn has_inodes_for_reserve(registry: &Registry) -> bool {
    registry.folder().free_files().is_none_or(|free| free >= 2 * SPARE_FILES as u64)
}

fn spare_files(registry: &Registry) -> impl Iterator<Item = FileRef> {
    let staging = registry.staging();
    (0..SPARE_FILES).map(move |n| staging.file(format!("spare-{n}")))
}

fn create_spare_files(registry: &Registry) -> io::Result<()> {
    for file in spare_files(registry) {
        match file.create_new() {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    if has_inodes_for_reserve(registry) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// Creates the reserve unless it exists. Requires twice its size in free space: otherwise the space that was freed by
/// releasing the reserve would be used to create it again.
pub fn create_reserve(registry: &Registry) -> io::Result<()> {
    create_spare_files(registry)?;
    let reserve = registry.reserve();
    // The reserve exists: a second one is written only to check that there is space for it, and dropped.
    if reserve.size() == Some(RESERVE_SIZE as u64) {
        return write_reserve(&reserve, RESERVE_SIZE).map(drop);
    }
    let mut staged = write_reserve(&reserve, 2 * RESERVE_SIZE)?;
    staged.file().set_len(RESERVE_SIZE as u64)?;
    staged.replace()
}

/// Creates the reserve if it is absent. Faster than [`create_reserve`] if it exists.
pub fn ensure_reserve(registry: &Registry) -> io::Result<()> {
    match registry.reserve().size() {
        Some(len) if len == RESERVE_SIZE as u64 => create_spare_files(registry),
        _ => create_reserve(registry),
    }
}

/// Releases the reserve: truncates its file and removes the spare files. Returns true if that freed any space.
pub fn release_reserve(registry: &Registry) -> bool {
    let truncate = || -> io::Result<bool> {
        let reserve = registry.reserve().open_to_write()?;
        let old_size = reserve.metadata()?.len();
        reserve.set_len(0)?;
        Ok(old_size > 0)
    };
    let removed_files = spare_files(registry).filter(|file| file.exists() && file.remove().is_ok()).count();
    truncate().unwrap_or(false) || removed_files > 0
}

/// Runs work that a daemon must do to start. If the work fails for lack of disk space, releases the reserve and
/// retries.
pub fn with_reserve<T>(registry: &Registry, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match work() {
        Err(e) if is_out_of_space(&e) && release_reserve(registry) => work(),
        result => result,
    }
}

/// Writes a file of `size` bytes. Blocks must be written to be reserved.
fn write_reserve(reserve: &FileRef, size: usize) -> io::Result<StagedFile> {
    let mut staged = StagedFile::create(reserve)?;
    staged.file().write_all(&vec![0; size])?;
    // A file system with delayed allocation reports a lack of space only here.
    staged.sync()?;
    Ok(staged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_created_then_released_once_then_created_again() {
        let (_dir, registry) = Registry::temporary();
        let len = || registry.reserve().size().unwrap();
        ensure_reserve(&registry).unwrap();
        assert_eq!((len(), is_released(&registry)), (RESERVE_SIZE as u64, false));
        let spares = || registry.staging().names().unwrap().len();
        assert_eq!(spares(), SPARE_FILES);
        assert_eq!(
            (release_reserve(&registry), release_reserve(&registry), len(), spares()),
            (true, false, 0, 0)
        );
        create_reserve(&registry).unwrap();
        create_reserve(&registry).unwrap();
        assert_eq!((len(), spares()), (RESERVE_SIZE as u64, SPARE_FILES));
        let hidden = |name: &String| name.starts_with(".reserve");
        assert!(!registry.folder().names().unwrap().iter().any(hidden));
    }
}
