//! Event log of a job: tracks written and durable lines, and recovers when a write or a sync fails.
//!
//! ```text
//!           write               sync
//!  settled ───────► written ──────────► settled
//!     ▲                │ fails: no space  │ fails
//!     │   take_back    ▼                  ▼
//!     └──────────── settled          poisoned: nothing on this descriptor is trusted, nothing is acknowledged
//!     ▲                                   │
//!     └────── renew: a new file ──────────┘
//! ```
//!
//! After a failed sync the system forgets which pages never reached the disk: a second sync succeeds, and the file
//! shows data that a power loss would erase. So lines with valid checksums are written into another file, which is
//! synced before it replaces the old one.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crate::files::file_ref::FileRef;
use crate::files::staged::{StagedFile, start_writeback};
use crate::registry::event_log;

pub(super) struct EventFile {
    path: FileRef,
    /// The open file; `None` while many jobs are open and this one has no new events.
    file: Option<File>,
    /// Length of the valid lines, in bytes. These may be acknowledged.
    valid_length: u64,
    /// True if these lines are synced; false if another process has written them.
    valid_synced: bool,
    /// True if the file's name is synced.
    name_synced: bool,
    /// Number of bytes that were written after the valid lines.
    unsynced_bytes: u64,
    poisoned: bool,
}

impl EventFile {
    /// Describes the log at `path`, which consists of `len` bytes of valid lines. The file may be absent.
    pub(super) fn new(path: FileRef, len: u64) -> Self {
        Self {
            path,
            file: None,
            valid_length: len,
            valid_synced: len == 0,
            name_synced: len > 0,
            unsynced_bytes: 0,
            poisoned: false,
        }
    }

    /// Marks the file as untrusted until it is rewritten: an earlier descriptor has failed.
    pub(super) fn mark_untrusted(&mut self) {
        self.poisoned = true;
    }

    /// Returns true if the file is untrusted.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Appends lines, which may not be acknowledged before [`EventFile::sync`].
    ///
    /// # Errors
    /// The error of the system call; then [`EventFile::truncate_unsynced`] or [`EventFile::rewrite`] must follow.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.poisoned {
            return Err(io::Error::other("an earlier write of it has failed"));
        }
        if lines.is_empty() && self.valid_synced {
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
    /// The error of the system call. The file is then poisoned.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.unsynced_bytes == 0 && self.valid_synced {
            return Ok(());
        }
        let synced =
            file.sync_data().and_then(|()| if self.name_synced { Ok(()) } else { self.path.dir().sync() });
        if synced.is_err() {
            self.poisoned = true;
            return synced;
        }
        self.valid_length += std::mem::take(&mut self.unsynced_bytes);
        (self.valid_synced, self.name_synced) = (true, true);
        Ok(())
    }

    /// Removes lines that were written but must not stay, so that readers see only valid lines.
    ///
    /// # Errors
    /// The error of the system call. The file is then poisoned.
    pub(super) fn truncate_unsynced(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let truncated = file.set_len(self.valid_length);
        if truncated.is_err() {
            self.poisoned = true;
        } else {
            self.unsynced_bytes = 0;
        }
        truncated
    }

    /// Rewrites the log: the valid lines, then `lines`. Afterwards everything in it is durable.
    ///
    /// # Errors
    /// The error of the system call; the old file is unchanged then, and stays poisoned.
    pub(super) fn rewrite(&mut self, lines: &[u8]) -> io::Result<()> {
        self.poisoned = true;
        self.file = None;
        let (copy, copied) = copy_valid_lines(&self.path, self.valid_length, lines)?;
        if copied != self.valid_length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its earlier lines can't be read back"));
        }
        copy.replace()?;
        self.path.dir().sync()?;
        *self = Self::new(self.path.clone(), self.valid_length + lines.len() as u64);
        (self.valid_synced, self.name_synced) = (true, true);
        Ok(())
    }

    /// Closes the descriptor until the next write.
    pub(super) fn close(&mut self) {
        if self.unsynced_bytes == 0 {
            self.file = None;
        }
    }
}

/// Copies the valid lines among the first `most` bytes of a log and appends `more`. Returns the copy, which is synced,
/// and the length of the copied lines.
pub(super) fn copy_valid_lines(log: &FileRef, most: u64, more: &[u8]) -> io::Result<(StagedFile, u64)> {
    let mut staged = StagedFile::create(log)?;
    let mut new = BufWriter::new(staged.file());
    let (mut copied, mut written) = (0, Ok(()));
    if most > 0 {
        event_log::scan_log(log, |raw, _| {
            if written.is_ok() && copied < most {
                copied += raw.len() as u64;
                written = new.write_all(raw);
            }
        })?;
    }
    written?;
    new.write_all(more)?;
    new.flush()?;
    drop(new);
    staged.sync()?;
    Ok((staged, copied))
}
