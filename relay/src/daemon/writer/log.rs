//! File of a job's event log: tracks written and durable lines, and recovers when a write or a sync fails.
//!
//! ```text
//!           write               sync
//!  settled ───────► written ──────────► settled
//!     ▲                │ no space         │ fails
//!     │                ▼                  ▼
//!     ├──── truncate_unsynced         untrusted: nothing on this descriptor is trusted, nothing is acknowledged
//!     │                                   │
//!     └───────── rewrite: a new file ─────┘
//! ```
//!
//! After a failed sync, the system forgets which pages never reached the disk: a second sync succeeds, and the file
//! shows data that a power loss would erase. So lines with valid checksums are written into another file, which is
//! synced before it replaces the old one.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crate::files::file_ref::FileRef;
use crate::files::staged::{StagedFile, start_writeback};
use crate::registry::event_log;

pub(super) struct EventFile {
    path: FileRef,
    /// The open file; `None` while many jobs are open and this job has no new events.
    file: Option<File>,
    /// Length of the valid lines, in bytes. These lines may be acknowledged.
    valid_length: u64,
    /// True if the valid lines are synced; false if another process has written them.
    is_valid_synced: bool,
    /// True if the file's name is synced.
    is_name_synced: bool,
    /// Number of bytes that were written after the valid lines.
    unsynced_bytes: u64,
    /// True after a failure: nothing that is written through the descriptor is trusted.
    is_untrusted: bool,
}

impl EventFile {
    /// Creates a closed file for the log at `path`, which has `len` bytes of valid lines, or does not exist.
    pub(super) fn new(path: FileRef, len: u64) -> Self {
        Self {
            path,
            file: None,
            valid_length: len,
            is_valid_synced: len == 0,
            is_name_synced: len > 0,
            unsynced_bytes: 0,
            is_untrusted: false,
        }
    }

    /// Marks the file as untrusted until it is rewritten: an earlier descriptor has failed.
    pub(super) fn mark_untrusted(&mut self) {
        self.is_untrusted = true;
    }

    /// Returns true if the file is untrusted.
    pub(super) fn is_untrusted(&self) -> bool {
        self.is_untrusted
    }

    /// Appends lines, which may not be acknowledged before [`EventFile::sync`].
    ///
    /// # Errors
    /// The error of the system call; then [`EventFile::truncate_unsynced`] or [`EventFile::rewrite`] must follow.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_untrusted {
            return Err(io::Error::other("an earlier write of it has failed"));
        }
        if lines.is_empty() && self.is_valid_synced {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.path.open_to_append()?);
        }
        if let Some(file) = &mut self.file {
            self.unsynced_bytes += lines.len() as u64;
            file.write_all(lines)?;
        }
        Ok(())
    }

    /// Starts writing the pending lines to the disk; [`EventFile::sync`] waits for them.
    pub(super) fn begin_sync(&self) {
        if let Some(file) = &self.file
            && self.unsynced_bytes > 0
        {
            start_writeback(file, self.valid_length, self.unsynced_bytes);
        }
    }

    /// Syncs everything that was written.
    ///
    /// # Errors
    /// The error of the system call. The file is then untrusted.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.unsynced_bytes == 0 && self.is_valid_synced {
            return Ok(());
        }
        let result =
            file.sync_data().and_then(|()| if self.is_name_synced { Ok(()) } else { self.path.dir().sync() });
        if result.is_err() {
            self.is_untrusted = true;
            return result;
        }
        self.valid_length += std::mem::take(&mut self.unsynced_bytes);
        (self.is_valid_synced, self.is_name_synced) = (true, true);
        Ok(())
    }

    /// Removes the lines that were written but not synced, so that readers see only valid lines.
    ///
    /// # Errors
    /// The error of the system call. The file is then untrusted.
    pub(super) fn truncate_unsynced(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let result = file.set_len(self.valid_length);
        if result.is_err() {
            self.is_untrusted = true;
        } else {
            self.unsynced_bytes = 0;
        }
        result
    }

    /// Replaces the log by a new file with the valid lines and `lines`. Afterwards all its lines are durable.
    ///
    /// # Errors
    /// The error of the system call; the old file is unchanged then, and stays untrusted.
    pub(super) fn rewrite(&mut self, lines: &[u8]) -> io::Result<()> {
        self.is_untrusted = true;
        self.file = None;
        let (copy, copied_bytes) = copy_valid_lines(&self.path, self.valid_length, lines)?;
        if copied_bytes != self.valid_length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its earlier lines can't be read back"));
        }
        copy.replace()?;
        self.path.dir().sync()?;
        *self = Self::new(self.path.clone(), self.valid_length + lines.len() as u64);
        (self.is_valid_synced, self.is_name_synced) = (true, true);
        Ok(())
    }

    /// Closes the descriptor until the next write.
    pub(super) fn close(&mut self) {
        if self.unsynced_bytes == 0 {
            self.file = None;
        }
    }
}

/// Copies the valid lines among the first `max_bytes` bytes of a log, and appends `new_lines`. Returns the copy, which
/// is synced, and the length of the copied lines.
pub(super) fn copy_valid_lines(
    log: &FileRef,
    max_bytes: u64,
    new_lines: &[u8],
) -> io::Result<(StagedFile, u64)> {
    let mut staged = StagedFile::create(log)?;
    let mut writer = BufWriter::new(staged.file());
    let (mut copied_bytes, mut write_result) = (0, Ok(()));
    if max_bytes > 0 {
        event_log::scan_log(log, |raw, _| {
            if write_result.is_ok() && copied_bytes < max_bytes {
                copied_bytes += raw.len() as u64;
                write_result = writer.write_all(raw);
            }
        })?;
    }
    write_result?;
    writer.write_all(new_lines)?;
    writer.flush()?;
    drop(writer);
    staged.sync()?;
    Ok((staged, copied_bytes))
}
