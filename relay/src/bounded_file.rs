//! Reader of small files that a setting or a session names: certificates, secrets, approvals, and the beginning of a
//! session's file.
//!
//! A session may replace these files with anything. Links are followed: people use them for such files, and approval
//! covers the content. A pipe or device is refused without waiting.

#![expect(clippy::disallowed_methods, reason = "files that settings name, outside of the registry")]

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Maximum size of a file that is read as a whole, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads a regular file of at most 1 MiB.
///
/// # Errors
/// Returns `InvalidInput` for anything but a regular file, `FileTooLarge` for more than 1 MiB, else the error of the
/// failing call.
pub fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = read_beginning(path, MAX_FILE_BYTES + 1)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// Reads at most the first `max_bytes` bytes of a regular file.
///
/// # Errors
/// Returns `InvalidInput` for anything but a regular file, else the error of the failing call.
pub fn read_beginning(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file for reading.
///
/// # Errors
/// Returns `InvalidInput` for anything but a regular file, else the error of the failing call.
pub fn open_file(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_pipe_a_folder_and_a_large_file_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for (name, kind) in [("pipe", io::ErrorKind::InvalidInput), (".", io::ErrorKind::InvalidInput)] {
            assert_eq!(read_bounded(&path(name)).unwrap_err().kind(), kind, "{name}");
        }
        File::create(path("large")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert_eq!(read_bounded(&path("large")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::write(path("small"), "text").unwrap();
        assert_eq!(read_bounded(&path("small")).unwrap(), b"text");
    }
}
