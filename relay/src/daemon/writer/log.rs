//! Event log of a job: tracks what is written and what is durable, and recovers when a write or a sync fails.
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
//! After a failed sync the system forgets which pages never reached the disk: a second sync reports success, and
//! reading the file shows data that a power loss would erase. So the log is rewritten from lines whose checksums hold,
//! into another file, which is synced before it takes the old one's name.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crate::files::file_ref::FileRef;
use crate::files::staged::{Staged, start_writeback};
use crate::registry::event_log;

pub(super) struct EventFile {
    path: FileRef,
    /// Closed while many jobs are open and this one has no new events.
    file: Option<File>,
    /// Length of the whole lines that may be acknowledged, in bytes.
    settled: u64,
    /// True if these lines are known to survive a power loss; false if another process has written them.
    synced: bool,
    /// True if the file's name is known to survive a power loss.
    named: bool,
    /// Bytes that were written after the settled lines.
    pending: u64,
    poisoned: bool,
}

impl EventFile {
    /// Describes the log at `path`, which holds `len` bytes of good lines and nothing else. The file may be absent.
    pub(super) fn new(path: FileRef, len: u64) -> Self {
        Self { path, file: None, settled: len, synced: len == 0, named: len > 0, pending: 0, poisoned: false }
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
    /// The failing call; then [`EventFile::truncate_unsynced`] or [`EventFile::rewrite`] must follow.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.poisoned {
            return Err(io::Error::other("an earlier write of it has failed"));
        }
        if lines.is_empty() && self.synced {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.path.open_to_append()?);
        }
        if let Some(file) = &mut self.file {
            self.pending += lines.len() as u64;
            file.write_all(lines)?;
        }
        Ok(())
    }

    /// Starts writing the pending lines to the disk; [`EventFile::sync`] waits for them.
    pub(super) fn begin_sync(&self) {
        if let Some(file) = &self.file
            && self.pending > 0
        {
            start_writeback(file, self.settled, self.pending);
        }
    }

    /// Makes everything written survive a power loss.
    ///
    /// # Errors
    /// The failing call: from then on the file is poisoned.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.pending == 0 && self.synced {
            return Ok(());
        }
        let synced = file.sync_data().and_then(|()| if self.named { Ok(()) } else { self.path.dir().sync() });
        if synced.is_err() {
            self.poisoned = true;
            return synced;
        }
        self.settled += std::mem::take(&mut self.pending);
        (self.synced, self.named) = (true, true);
        Ok(())
    }

    /// Cuts off lines that were written and may not stay, so that readers see only valid ones at once.
    ///
    /// # Errors
    /// The failing call: from then on the file is poisoned.
    pub(super) fn truncate_unsynced(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let cut = file.set_len(self.settled);
        if cut.is_err() {
            self.poisoned = true;
        } else {
            self.pending = 0;
        }
        cut
    }

    /// Rewrites the log: the settled lines, then `lines`. Everything in it is durable then.
    ///
    /// # Errors
    /// The failing call; the old file is unchanged then, and stays poisoned.
    pub(super) fn rewrite(&mut self, lines: &[u8]) -> io::Result<()> {
        self.poisoned = true;
        self.file = None;
        let (copy, copied) = copy_good_lines(&self.path, self.settled, lines)?;
        if copied != self.settled {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its earlier lines can't be read back"));
        }
        copy.replace()?;
        self.path.dir().sync()?;
        *self = Self::new(self.path.clone(), self.settled + lines.len() as u64);
        (self.synced, self.named) = (true, true);
        Ok(())
    }

    /// Closes the descriptor until the next write.
    pub(super) fn close(&mut self) {
        if self.pending == 0 {
            self.file = None;
        }
    }
}

/// Copies the good lines among the first `most` bytes of a log and appends `more`. Returns the copy, which is synced,
/// and the length of the copied lines.
pub(super) fn copy_good_lines(log: &FileRef, most: u64, more: &[u8]) -> io::Result<(Staged, u64)> {
    let mut staged = Staged::begin(log)?;
    let mut new = BufWriter::new(staged.file());
    let (mut copied, mut written) = (0, Ok(()));
    if most > 0 {
        event_log::scan(log, |raw, _| {
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
