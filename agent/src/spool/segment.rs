//! A segment: one append-only file with some of the events of a run, `events.SERIAL`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::header::Header;
use super::room;

/// In front of the serial in the name.
const PREFIX: &str = "events.";

/// What a file of events holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// Its place among the files of its run: they grow by one.
    pub(super) serial: u32,
    /// What the checksums of its records begin with.
    pub(super) salt: u32,
    /// Sequence of the first event that counts.
    pub(super) first: u64,
    /// The sequence that follows the last one.
    pub(super) next: u64,
    /// Where the first event that counts begins.
    pub(super) begin: u64,
    /// Where the last one ends.
    pub(super) end: u64,
}

/// Path of a segment in its run's folder.
pub(super) fn path(dir: &Path, serial: u32) -> PathBuf {
    dir.join(format!("{PREFIX}{serial:06}"))
}

/// The serial of a file's name.
pub(super) fn serial(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) span: Span,
    pub(super) file: File,
    /// Up to here the disk has room for it.
    room: u64,
}

impl Segment {
    /// Makes a segment, with room for `keep` bytes in it.
    ///
    /// # Errors
    /// What the file system says; nothing is left then.
    pub(super) fn create(dir: &Path, serial: u32, header: &Header, keep: u64) -> io::Result<Self> {
        let path = path(dir, serial);
        let options = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let result = options.and_then(|file| {
            let bytes = header.bytes();
            let end = bytes.len() as u64;
            room::reserve(&file, 0, end + keep)?;
            file.write_all_at(&bytes, 0)?;
            let Header { first, salt, .. } = *header;
            let span = Span { serial, salt, first, next: first, begin: end, end };
            Ok(Self { span, file, room: end + keep })
        });
        if result.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        result
    }

    /// Opens a segment to go on behind `span`; what stands there is cut off.
    ///
    /// # Errors
    /// What the file system says. That there is no room for `keep` bytes is none: they have to be found later.
    pub(super) fn open(dir: &Path, span: Span, keep: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path(dir, span.serial))?;
        // A file that ends where it should keeps the room that was reserved for it behind its end.
        if file.metadata()?.len() != span.end {
            file.set_len(span.end)?;
        }
        let room = room::reserve(&file, span.end, span.end + keep).map_or(span.end, |()| span.end + keep);
        Ok(Self { span, file, room })
    }

    /// Writes records up to the sequence before `next`, if `keep` bytes of room are left behind them. Room is taken
    /// `step` bytes at a time.
    ///
    /// # Errors
    /// What the file system says: then they count as not written, and the next write goes over them.
    pub(super) fn write(&mut self, bytes: &[u8], next: u64, keep: u64, step: u64) -> io::Result<()> {
        let end = self.span.end + bytes.len() as u64;
        if end + keep > self.room {
            room::reserve(&self.file, self.room, end + keep + step)?;
            self.room = end + keep + step;
        }
        self.file.write_all_at(bytes, self.span.end)?;
        self.span.end = end;
        self.span.next = next;
        Ok(())
    }

    /// Nothing more is written: the room behind the end is given back.
    pub(super) fn close(self) -> Span {
        // Where that fails, the room is freed with the file.
        let _ = self.file.set_len(self.span.end);
        self.span
    }

    /// The same, where more may still have to be written.
    pub(super) fn trim(&mut self) {
        if self.file.set_len(self.span.end).is_ok() {
            self.room = self.span.end;
        }
    }
}
