//! Atomic file replacement: readers see the old or the new content, never a mix.
//!
//! For files that only their owner may write. Files of the registry use [`super::file_ref`].

#![expect(clippy::disallowed_methods, reason = "only used for files that no other user may write")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Durability of a replaced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The bytes must survive a power loss before the call returns.
    Synced,
    /// The bytes can be rebuilt from durable data.
    Cached,
}

/// Replaces `path`, with mode 0600.
///
/// # Errors
/// Returns the error of the first failing call. The old file is then unchanged.
pub fn replace_file(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let temporary = temp_path(path);
    let result = write_new(&temporary, bytes, durability).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // Best effort: the next attempt reuses the name.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Returns the temporary path: hidden, with the process id, and in the target's directory because `rename` works only
/// within one file system.
pub fn temp_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn write_new(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    Ok(())
}
