//! Disk space that is reserved for a file before anything is written there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

/// Reserves space from `start` up to `end`. If the file system can't reserve space, writes zeroes instead. So this
/// function may only be used for files in which zeroes after the last record count as a torn write.
///
/// # Errors
/// The file system failed; see [`is_disk_full`].
pub(super) fn reserve_or_zero(file: &File, start: u64, end: u64) -> io::Result<()> {
    if !try_reserve(file, start, end)? {
        write_zeroes(file, start, end)?;
    }
    Ok(())
}

/// Reserves space without a change of the file's length. If the file system can't reserve space, none is reserved.
pub(super) fn reserve_if_supported(file: &File, start: u64, end: u64) -> io::Result<()> {
    try_reserve(file, start, end).map(|_| ())
}

/// Reserves space; returns true if the file system supports that.
fn try_reserve(file: &File, start: u64, end: u64) -> io::Result<bool> {
    if end <= start {
        return Ok(true);
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, start, end - start)) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_zeroes(file: &File, start: u64, end: u64) -> io::Result<()> {
    let block = [0; 4096];
    let mut at = start;
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(block.len());
        file.write_all_at(&block[..len], at)?;
        at += len as u64;
    }
    Ok(())
}

/// Returns true for a full disk, and false for other errors.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn reserved_space_belongs_to_the_file_and_does_not_change_its_length() {
        let file = tempfile::tempfile().unwrap();
        reserve_or_zero(&file, 0, 100_000).unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!((meta.len(), meta.blocks() * 512 >= 100_000), (0, true));
        reserve_or_zero(&file, 50, 20).unwrap();
    }
}
