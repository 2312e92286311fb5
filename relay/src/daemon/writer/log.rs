//! A job's event log as the writer holds it: what is written, what is known to be durable, and what to do when neither
//! can be had.
//!
//! ```text
//!           write               sync
//!  settled ───────► written ──────────► settled
//!     ▲                │ fails: no room   │ fails
//!     │   take_back    ▼                  ▼
//!     └──────────── settled          poisoned: nothing on this descriptor is believed, nothing is acknowledged
//!     ▲                                   │
//!     └────── renew: a new file ──────────┘
//! ```
//!
//! After a failed sync the system forgets which pages never reached the disk: a second sync says that all is well, and
//! reading the file shows what will be gone after a power loss. So the log is written anew, from lines whose checksums
//! hold, into another file, which is synced before it takes the old one's name.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crate::registry::file_ref::FileRef;
use crate::registry::staged::Staged;
use crate::registry::{event_log, write_back};

pub(super) struct EventFile {
    path: FileRef,
    /// Closed while many jobs are open and this one has nothing to say.
    file: Option<File>,
    /// Bytes that hold whole lines that may be acknowledged.
    settled: u64,
    /// Whether they are known to survive a power loss: not when somebody else has written them.
    synced: bool,
    /// Whether the file's name is.
    named: bool,
    /// Bytes that were written behind them.
    pending: u64,
    poisoned: bool,
}

impl EventFile {
    /// The log at `path`, which holds `len` bytes of good lines and nothing else. It may be absent.
    pub(super) fn new(path: FileRef, len: u64) -> Self {
        Self { path, file: None, settled: len, synced: len == 0, named: len > 0, pending: 0, poisoned: false }
    }

    /// Believes nothing of the file until it was written anew: an earlier descriptor has failed.
    pub(super) fn distrust(&mut self) {
        self.poisoned = true;
    }

    /// Whether nothing in it is believed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Appends lines. Nothing of them may be acknowledged before [`EventFile::sync`].
    ///
    /// # Errors
    /// The failing call; then [`EventFile::take_back`] or [`EventFile::renew`] has to follow.
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

    /// Starts to write to the disk what [`EventFile::sync`] will wait for.
    pub(super) fn begin_sync(&self) {
        if let Some(file) = &self.file
            && self.pending > 0
        {
            write_back::begin(file, self.settled, self.pending);
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

    /// Cuts off what was written and may not stay: readers see at once what holds.
    ///
    /// # Errors
    /// The failing call: from then on the file is poisoned.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let cut = file.set_len(self.settled);
        if cut.is_err() {
            self.poisoned = true;
        } else {
            self.pending = 0;
        }
        cut
    }

    /// Writes the log anew: what is settled, then `lines`. Everything in it is durable then.
    ///
    /// # Errors
    /// The failing call; the old file is untouched then, and stays poisoned.
    pub(super) fn renew(&mut self, lines: &[u8]) -> io::Result<()> {
        self.poisoned = true;
        self.file = None;
        copy(&self.path, self.settled, lines)?.replace()?;
        self.path.dir().sync()?;
        *self = Self::new(self.path.clone(), self.settled + lines.len() as u64);
        (self.synced, self.named) = (true, true);
        Ok(())
    }

    /// Gives the descriptor back until the next write.
    pub(super) fn close(&mut self) {
        if self.pending == 0 {
            self.file = None;
        }
    }
}

/// Copies the first `len` bytes of a log, which have to be good lines, and `lines` behind them.
fn copy(log: &FileRef, len: u64, lines: &[u8]) -> io::Result<Staged> {
    let mut staged = Staged::begin(log)?;
    let mut new = BufWriter::new(staged.file());
    let (mut copied, mut written) = (0, Ok(()));
    let mut take = |raw: &[u8]| {
        if written.is_ok() && copied < len {
            copied += raw.len() as u64;
            written = new.write_all(raw);
        }
    };
    if len > 0 {
        event_log::scan(log, |raw, _| take(raw))?;
    }
    written?;
    if copied != len {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its earlier lines can't be read back"));
    }
    new.write_all(lines)?;
    new.flush()?;
    drop(new);
    staged.sync()?;
    Ok(staged)
}
