//! A segment: one append-only file with some of the events of a run, `events.SERIAL`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::header::Header;
use super::preallocate;

/// Prefix of the serial in the name.
const PREFIX: &str = "events.";

/// Content of a file of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// Number among the files of its run; consecutive files differ by one.
    pub(super) serial: u32,
    /// Salt that the checksums of its records begin with.
    pub(super) salt: u32,
    /// Sequence of the first valid event.
    pub(super) first: u64,
    /// Sequence that follows the last one.
    pub(super) next: u64,
    /// Offset of the first valid event.
    pub(super) begin: u64,
    /// Offset of the end of the last one.
    pub(super) end: u64,
}

/// Returns the path of a segment in its run's folder.
pub(super) fn path(dir: &Path, serial: u32) -> PathBuf {
    dir.join(format!("{PREFIX}{serial:06}"))
}

/// Returns the serial in a file's name.
pub(super) fn serial(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) span: Span,
    pub(super) file: File,
    /// Offset up to which disk space is reserved.
    reserved: u64,
}

impl Segment {
    /// Creates a segment, with space reserved for `keep` bytes in it.
    ///
    /// # Errors
    /// The file system failed; nothing is left behind.
    pub(super) fn create(dir: &Path, serial: u32, header: &Header, keep: u64) -> io::Result<Self> {
        let path = path(dir, serial);
        let options = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let result = options.and_then(|file| {
            let bytes = header.encode();
            let end = bytes.len() as u64;
            preallocate::reserve(&file, 0, end + keep)?;
            file.write_all_at(&bytes, 0)?;
            let Header { first, salt, .. } = *header;
            let span = Span { serial, salt, first, next: first, begin: end, end };
            Ok(Self { span, file, reserved: end + keep })
        });
        if result.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        result
    }

    /// Opens a segment to continue after `span`; anything after it is cut off.
    ///
    /// # Errors
    /// The file system failed. Missing space for `keep` bytes is no error: it has to be found later.
    pub(super) fn open(dir: &Path, span: Span, keep: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path(dir, span.serial))?;
        // A file with the right length keeps the space that was reserved after its end.
        if file.metadata()?.len() != span.end {
            file.set_len(span.end)?;
        }
        let room =
            preallocate::reserve(&file, span.end, span.end + keep).map_or(span.end, |()| span.end + keep);
        Ok(Self { span, file, reserved: room })
    }

    /// Writes records up to the sequence before `next`, if `keep` bytes of space are left after them. Space is
    /// reserved in steps of `step` bytes.
    ///
    /// # Errors
    /// The file system failed: the records count as not written, and the next write overwrites them.
    pub(super) fn write(&mut self, bytes: &[u8], next: u64, keep: u64, step: u64) -> io::Result<()> {
        let end = self.span.end + bytes.len() as u64;
        if end + keep > self.reserved {
            preallocate::reserve(&self.file, self.reserved, end + keep + step)?;
            self.reserved = end + keep + step;
        }
        self.file.write_all_at(bytes, self.span.end)?;
        self.span.end = end;
        self.span.next = next;
        Ok(())
    }

    /// Closes the segment, since nothing more is written: frees the space after the end.
    pub(super) fn close(self) -> Span {
        // If this fails, the space is freed with the file.
        let _ = self.file.set_len(self.span.end);
        self.span
    }

    /// Frees the space after the end, where more may still have to be written.
    pub(super) fn trim(&mut self) {
        if self.file.set_len(self.span.end).is_ok() {
            self.reserved = self.span.end;
        }
    }
}
