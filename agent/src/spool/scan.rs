//! Parser of a segment's bytes, also of damaged ones. Pure.
//!
//! ```text
//! header │ record … record │                     TrailingBytes::None
//! header │ record … record │ half, zeroes, junk  TrailingBytes::Torn     a write that a crash interrupted: truncated
//! header │ record … record │ junk │ record …     TrailingBytes::Damaged  not caused by a crash: reported
//! ```

use super::header::SegmentHeader;
use super::record;

/// Valid part of a segment, from its last jump on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentScan {
    /// Sequence of the first record.
    pub(crate) first_seq: u64,
    /// Sequence after that of the last valid record.
    pub(crate) next_seq: u64,
    /// Offset of the first record.
    pub(crate) first_record_offset: usize,
    /// Offset of the end of the valid part.
    pub(crate) valid_end: usize,
    /// True if the segment contains a jump: earlier segments are obsolete.
    pub(crate) has_jump: bool,
    /// Range of the last record's payload; `None` if there is no record.
    pub(crate) last_payload: Option<(usize, usize)>,
    /// Bytes after the valid part.
    pub(crate) trailing_bytes: TrailingBytes,
}

/// Bytes after the valid part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrailingBytes {
    /// No bytes: the valid part ends with the file.
    None,
    /// The rest of an interrupted write.
    Torn,
    /// Damage, with a valid record after it.
    Damaged,
}

/// Parses a segment with a valid header of `header_length` bytes.
pub(crate) fn scan_segment(bytes: &[u8], header: &SegmentHeader, header_length: usize) -> SegmentScan {
    let (first, salt) = (header.first_seq, header.salt);
    let mut scan = SegmentScan {
        first_seq: first,
        next_seq: first,
        first_record_offset: header_length,
        valid_end: header_length,
        has_jump: false,
        last_payload: None,
        trailing_bytes: TrailingBytes::None,
    };
    loop {
        scan.advance_over_records(bytes, salt);
        let rest = bytes.get(scan.valid_end..).unwrap_or_default();
        let Some((at, found)) = record::find_record(rest, salt, scan.next_seq) else {
            scan.trailing_bytes =
                if scan.valid_end == bytes.len() { TrailingBytes::None } else { TrailingBytes::Torn };
            return scan;
        };
        let at = scan.valid_end + at;
        // Damage before a jump does not matter: the relay already holds those events.
        let Some(jump) = next_jump(bytes, at, found, salt) else {
            scan.trailing_bytes = TrailingBytes::Damaged;
            return scan;
        };
        scan.valid_end = jump;
    }
}

impl SegmentScan {
    /// Advances over valid records in sequence.
    fn advance_over_records(&mut self, bytes: &[u8], salt: u32) {
        while let Some(record) = bytes.get(self.valid_end..).and_then(|rest| record::decode(rest, salt)) {
            let begin = self.valid_end + record::HEADER_SIZE;
            if record.is_jump() {
                *self = Self {
                    first_seq: record.seq.saturating_add(1),
                    next_seq: record.seq.saturating_add(1),
                    first_record_offset: begin,
                    valid_end: begin,
                    has_jump: true,
                    last_payload: None,
                    trailing_bytes: self.trailing_bytes,
                };
            } else if record.seq == self.next_seq {
                self.next_seq = self.next_seq.saturating_add(1);
                self.valid_end += record.size();
                self.last_payload = Some((begin, self.valid_end));
            } else {
                return;
            }
        }
    }
}

/// Returns the offset of the first jump, beginning the search with `record`, which is at `start`.
fn next_jump(bytes: &[u8], start: usize, record: record::Record<'_>, salt: u32) -> Option<usize> {
    let (mut at, mut record) = (start, record);
    while !record.is_jump() {
        let record_end = at + record.size();
        let (skipped, next) = record::find_record(bytes.get(record_end..)?, salt, record.seq)?;
        (at, record) = (record_end + skipped, next);
    }
    Some(at)
}

/// Returns the payloads of all valid records after the offset `start`, whatever is between them.
pub(crate) fn salvage_payloads(bytes: &[u8], start: usize, salt: u32, seq: u64) -> Vec<&[u8]> {
    let (mut at, mut seq, mut found) = (start, seq, Vec::new());
    while let Some((skipped, record)) = bytes.get(at..).and_then(|rest| record::find_record(rest, salt, seq))
    {
        at += skipped + record.size();
        seq = record.seq;
        found.push(record.payload);
    }
    found
}

/// Reads a whole segment like recovery, for the fuzz target. Returns the valid part and the payloads found after it, or
/// `None` if the header is invalid.
#[cfg(feature = "internals")]
pub(crate) fn read_segment(bytes: &[u8]) -> Option<(SegmentScan, Vec<&[u8]>)> {
    let (header, begin) = SegmentHeader::decode(bytes)?;
    let scan = scan_segment(bytes, &header, begin);
    let salvaged = salvage_payloads(bytes, scan.valid_end, header.salt, header.first_seq);
    Some((scan, salvaged))
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
