//! Reading of stored events, in the order in which they are sent. The position after the last one is remembered.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::record;
use super::segment::{self, Span};

/// Bytes of one read of a file: as many as are sent to the relay at once.
const READ_SIZE: u64 = 64 * 1024;

/// Events in their stored form.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Offset of the end of each event.
    ends: Vec<usize>,
}

impl Batch {
    /// Returns the number of events.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the bytes of all events, one after the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes of each event.
    pub(crate) fn events(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end])
    }

    /// Adds an event, unless there are `most` already or it would exceed `bytes`; the first one always fits. Returns
    /// true if it was added.
    pub(super) fn push_within(&mut self, event: &[u8], most: usize, bytes: usize) -> bool {
        let fits = self.len() < most && (self.len() == 0 || self.bytes.len() + event.len() <= bytes);
        if fits {
            self.bytes.extend_from_slice(event);
            self.ends.push(self.bytes.len());
        }
        fits
    }
}

/// A position in a segment.
#[derive(Debug, Clone, Copy)]
struct Position {
    serial: u32,
    /// Sequence of the record that begins there.
    seq: u64,
    offset: u64,
}

/// Reader that remembers the end of its last read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    position: Option<Position>,
    older: Option<(u32, File)>,
}

impl Reader {
    /// Reads events of a segment from `first` on; the segment contains `first`.
    ///
    /// # Errors
    /// The file can't be read, or holds other bytes than were written.
    pub(super) fn read(
        &mut self,
        file: &File,
        span: &Span,
        first: u64,
        most: usize,
        bytes: usize,
    ) -> io::Result<Batch> {
        let usable = |position: &Position| {
            position.serial == span.serial && (span.first..=first).contains(&position.seq)
        };
        let begin = Position { serial: span.serial, seq: span.first, offset: span.begin };
        let mut position = self.position.filter(usable).unwrap_or(begin);
        let mut batch = Batch::default();
        let mut window = READ_SIZE;
        while position.seq < span.next {
            let left = span.end - position.offset;
            let mut buffer = vec![0; usize::try_from(window.min(left)).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut buffer, position.offset)?;
            let mut rest = buffer.as_slice();
            let mut stepped = false;
            while let Some(record) =
                record::decode(rest, span.salt).filter(|record| record.seq == position.seq)
            {
                if record.seq >= first && !batch.push_within(record.payload, most, bytes) {
                    self.position = Some(position);
                    return Ok(batch);
                }
                position.seq += 1;
                position.offset += record.size() as u64;
                rest = &rest[record.size()..];
                stepped = true;
            }
            if !stepped && batch.len() > 0 {
                break;
            }
            if !stepped {
                // The record is longer than the window, or is not what was written.
                window =
                    record::peek_header(&buffer).map_or(0, |(len, _)| (record::HEADER_SIZE + len) as u64);
                if window <= buffer.len() as u64 || window > left {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the spool holds a damaged event",
                    ));
                }
            }
        }
        self.position = Some(position);
        Ok(batch)
    }

    /// Reads events like [`read`](Self::read), from a segment that is not written to any more.
    ///
    /// # Errors
    /// Same as [`read`](Self::read), or the file can't be opened.
    pub(super) fn read_older(
        &mut self,
        dir: &Path,
        span: &Span,
        first: u64,
        most: usize,
        bytes: usize,
    ) -> io::Result<Batch> {
        let file = match self.older.take() {
            Some((serial, file)) if serial == span.serial => file,
            _ => File::open(segment::path(dir, span.serial))?,
        };
        let batch = self.read(&file, span, first, most, bytes);
        self.older = Some((span.serial, file));
        batch
    }

    /// Forgets the position: sequences have moved.
    pub(super) fn restart(&mut self) {
        self.position = None;
    }

    /// Closes a segment that was deleted.
    pub(super) fn close_segment(&mut self, serial: u32) {
        self.older.take_if(|(open, _)| *open == serial);
    }
}
