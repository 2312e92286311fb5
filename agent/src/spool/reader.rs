//! Reader of stored events, in sending order. It remembers the position after the last event that it read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::record;
use super::segment::{self, SegmentSpan};

/// Size of one read of a file, in bytes: as much as is sent to the relay at once.
const READ_SIZE: u64 = 64 * 1024;

/// Events in their encoded form.
#[derive(Debug, Default)]
pub(crate) struct EncodedEvents {
    bytes: Vec<u8>,
    /// Offset of the end of each event.
    end_offsets: Vec<usize>,
}

impl EncodedEvents {
    /// Returns the number of events.
    pub(crate) fn len(&self) -> usize {
        self.end_offsets.len()
    }

    /// Returns the bytes of all events, one after the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes of each event.
    pub(crate) fn events(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.end_offsets.iter().copied());
        starts.zip(&self.end_offsets).map(|(begin, end)| &self.bytes[begin..*end])
    }

    /// Adds an event if it stays within both limits, or is the first one. Returns true if the event was added.
    pub(super) fn push_within(&mut self, event: &[u8], max_events: usize, max_bytes: usize) -> bool {
        let fits =
            self.len() < max_events && (self.len() == 0 || self.bytes.len() + event.len() <= max_bytes);
        if fits {
            self.bytes.extend_from_slice(event);
            self.end_offsets.push(self.bytes.len());
        }
        fits
    }
}

#[derive(Debug, Clone, Copy)]
struct SegmentPosition {
    segment_number: u32,
    /// Sequence of the record that begins at `offset`.
    seq: u64,
    offset: u64,
}

/// Reader that remembers the end of its last read.
#[derive(Debug, Default)]
pub(super) struct SegmentReader {
    next_position: Option<SegmentPosition>,
    older_file: Option<(u32, File)>,
}

impl SegmentReader {
    /// Reads events of a segment from `first_seq` on. The segment must contain that sequence number.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    pub(super) fn read(
        &mut self,
        file: &File,
        span: &SegmentSpan,
        first_seq: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> io::Result<EncodedEvents> {
        let is_usable = |position: &SegmentPosition| {
            position.segment_number == span.segment_number
                && (span.first_seq..=first_seq).contains(&position.seq)
        };
        let begin = SegmentPosition {
            segment_number: span.segment_number,
            seq: span.first_seq,
            offset: span.first_event_offset,
        };
        let mut position = self.next_position.filter(is_usable).unwrap_or(begin);
        let mut batch = EncodedEvents::default();
        let mut window = READ_SIZE;
        while position.seq < span.next_seq {
            let remaining = span.end_offset - position.offset;
            let mut buffer = vec![0; usize::try_from(window.min(remaining)).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut buffer, position.offset)?;
            let mut rest = buffer.as_slice();
            let mut has_advanced = false;
            while let Some(record) =
                record::decode(rest, span.salt).filter(|record| record.seq == position.seq)
            {
                if record.seq >= first_seq && !batch.push_within(record.payload, max_events, max_bytes) {
                    self.next_position = Some(position);
                    return Ok(batch);
                }
                position.seq += 1;
                position.offset += record.size() as u64;
                rest = &rest[record.size()..];
                has_advanced = true;
            }
            if !has_advanced && batch.len() > 0 {
                break;
            }
            if !has_advanced {
                // The record is longer than one read, or is damaged.
                window =
                    record::peek_header(&buffer).map_or(0, |(len, _)| (record::HEADER_SIZE + len) as u64);
                if window <= buffer.len() as u64 || window > remaining {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the spool holds a damaged event",
                    ));
                }
            }
        }
        self.next_position = Some(position);
        Ok(batch)
    }

    /// Reads events like [`read`](Self::read), from an older segment.
    ///
    /// # Errors
    /// Same as [`read`](Self::read), or the file can't be opened.
    pub(super) fn read_older(
        &mut self,
        dir: &Path,
        span: &SegmentSpan,
        first_seq: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> io::Result<EncodedEvents> {
        let file = match self.older_file.take() {
            Some((number, file)) if number == span.segment_number => file,
            _ => File::open(segment::segment_path(dir, span.segment_number))?,
        };
        let batch = self.read(&file, span, first_seq, max_events, max_bytes);
        self.older_file = Some((span.segment_number, file));
        batch
    }

    /// Forgets the position of the last read, because sequence numbers have changed.
    pub(super) fn forget_position(&mut self) {
        self.next_position = None;
    }

    /// Closes the file of a segment that was deleted.
    pub(super) fn close_segment(&mut self, segment_number: u32) {
        self.older_file.take_if(|(open, _)| *open == segment_number);
    }
}
