//! Segment: an append-only file, `events.NUMBER`, with some of the events of a run.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::header::SegmentHeader;
use super::preallocate;

/// Prefix of the segment number in the file name.
const NAME_PREFIX: &str = "events.";

/// Range of the valid events in the file of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentSpan {
    /// Number of the segment; consecutive segments of a run differ by one.
    pub(super) segment_number: u32,
    /// Salt that is included in the checksums of the segment's records.
    pub(super) salt: u32,
    /// Sequence of the first valid event.
    pub(super) first_seq: u64,
    /// Sequence after that of the last valid event.
    pub(super) next_seq: u64,
    pub(super) first_event_offset: u64,
    /// Offset of the end of the last valid event.
    pub(super) end_offset: u64,
}

/// Returns the path of a segment in its run's folder.
pub(super) fn segment_path(dir: &Path, segment_number: u32) -> PathBuf {
    dir.join(format!("{NAME_PREFIX}{segment_number:06}"))
}

/// Returns the segment number in a file's name.
pub(super) fn parse_segment_number(name: &str) -> Option<u32> {
    name.strip_prefix(NAME_PREFIX)?.parse().ok()
}

/// Segment that is being written.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) span: SegmentSpan,
    pub(super) file: File,
    /// Offset up to which disk space is reserved.
    reserved_offset: u64,
}

impl Segment {
    /// Creates a segment, with `reserve_bytes` bytes of reserved space.
    ///
    /// # Errors
    /// The file system failed; nothing is left behind.
    pub(super) fn create(
        dir: &Path,
        segment_number: u32,
        header: &SegmentHeader,
        reserve_bytes: u64,
    ) -> io::Result<Self> {
        let path = segment_path(dir, segment_number);
        let options = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let result = options.and_then(|file| {
            let bytes = header.encode();
            let end = bytes.len() as u64;
            preallocate::reserve_or_zero(&file, 0, end + reserve_bytes)?;
            file.write_all_at(&bytes, 0)?;
            let SegmentHeader { first_seq, salt, .. } = *header;
            let span = SegmentSpan {
                segment_number,
                salt,
                first_seq,
                next_seq: first_seq,
                first_event_offset: end,
                end_offset: end,
            };
            Ok(Self { span, file, reserved_offset: end + reserve_bytes })
        });
        if result.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        result
    }

    /// Opens a segment to continue it after `span`. Removes any bytes after the span.
    ///
    /// # Errors
    /// The file system failed. If only the space for the reserve is missing, the segment is opened anyway.
    pub(super) fn open(dir: &Path, span: SegmentSpan, reserve_bytes: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(segment_path(dir, span.segment_number))?;
        // `set_len` would free the space reserved after the end, so it is not called for a file of the right length.
        if file.metadata()?.len() != span.end_offset {
            file.set_len(span.end_offset)?;
        }
        let reserved_offset =
            preallocate::reserve_or_zero(&file, span.end_offset, span.end_offset + reserve_bytes)
                .map_or(span.end_offset, |()| span.end_offset + reserve_bytes);
        Ok(Self { span, file, reserved_offset })
    }

    /// Writes records, the last of which has the sequence number before `next_seq`, if `reserve_bytes` bytes of space
    /// remain reserved after them. Space is reserved in steps of `preallocate_step` bytes.
    ///
    /// # Errors
    /// The file system failed. The records count as not written, and the next write overwrites them.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        next_seq: u64,
        reserve_bytes: u64,
        preallocate_step: u64,
    ) -> io::Result<()> {
        let end = self.span.end_offset + bytes.len() as u64;
        if end + reserve_bytes > self.reserved_offset {
            preallocate::reserve_or_zero(
                &self.file,
                self.reserved_offset,
                end + reserve_bytes + preallocate_step,
            )?;
            self.reserved_offset = end + reserve_bytes + preallocate_step;
        }
        self.file.write_all_at(bytes, self.span.end_offset)?;
        self.span.end_offset = end;
        self.span.next_seq = next_seq;
        Ok(())
    }

    /// Closes the segment and frees the space after its end.
    pub(super) fn close(self) -> SegmentSpan {
        // If this fails, the space is freed with the file.
        let _ = self.file.set_len(self.span.end_offset);
        self.span
    }

    /// Frees the space after the end. The segment stays open for writing.
    pub(super) fn free_reserved_space(&mut self) {
        if self.file.set_len(self.span.end_offset).is_ok() {
            self.reserved_offset = self.span.end_offset;
        }
    }
}
