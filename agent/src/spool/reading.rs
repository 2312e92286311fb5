//! Reads events back, in the order in which they are sent: the place behind the last one is remembered.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::record;
use super::segment::{self, Span};

/// One read of a file: what is under way to the relay at once.
const WINDOW: u64 = 64 * 1024;

/// Events as they are stored.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl Batch {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Their bytes, one behind the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each one's bytes.
    pub(crate) fn events(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end])
    }

    /// Takes one more, unless there are `most` or that would be more than `bytes`; the first one in any case.
    pub(super) fn take(&mut self, event: &[u8], most: usize, bytes: usize) -> bool {
        let fits = self.len() < most && (self.len() == 0 || self.bytes.len() + event.len() <= bytes);
        if fits {
            self.bytes.extend_from_slice(event);
            self.ends.push(self.bytes.len());
        }
        fits
    }
}

/// A place in a segment.
#[derive(Debug, Clone, Copy)]
struct Place {
    serial: u32,
    /// Sequence of the record that begins there.
    seq: u64,
    at: u64,
}

/// Where the last read ended.
#[derive(Debug, Default)]
pub(super) struct Reader {
    place: Option<Place>,
    older: Option<(u32, File)>,
}

impl Reader {
    /// Events of a segment from `first` on, which it has.
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
        let usable = |place: &Place| place.serial == span.serial && (span.first..=first).contains(&place.seq);
        let begin = Place { serial: span.serial, seq: span.first, at: span.begin };
        let mut place = self.place.filter(usable).unwrap_or(begin);
        let mut batch = Batch::default();
        let mut window = WINDOW;
        while place.seq < span.next {
            let left = span.end - place.at;
            let mut buffer = vec![0; usize::try_from(window.min(left)).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut buffer, place.at)?;
            let mut rest = buffer.as_slice();
            let mut stepped = false;
            while let Some(record) = record::take(rest, span.salt).filter(|record| record.seq == place.seq) {
                if record.seq >= first && !batch.take(record.payload, most, bytes) {
                    self.place = Some(place);
                    return Ok(batch);
                }
                place.seq += 1;
                place.at += record.size() as u64;
                rest = &rest[record.size()..];
                stepped = true;
            }
            if !stepped && batch.len() > 0 {
                break;
            }
            if !stepped {
                // Longer than the window, or not what was written.
                window = record::peek(&buffer).map_or(0, |(len, _)| (record::HEAD + len) as u64);
                if window <= buffer.len() as u64 || window > left {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the spool holds a damaged event",
                    ));
                }
            }
        }
        self.place = Some(place);
        Ok(batch)
    }

    /// The same of a segment that is not written to any more.
    ///
    /// # Errors
    /// The same, or the file can't be opened.
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

    /// Sequences stand elsewhere by now.
    pub(super) fn restart(&mut self) {
        self.place = None;
    }

    /// A segment is gone.
    pub(super) fn forget(&mut self, serial: u32) {
        self.older.take_if(|(open, _)| *open == serial);
    }
}
