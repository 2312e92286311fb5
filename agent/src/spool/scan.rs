//! Content of a segment's bytes, whatever was done to them. Pure.
//!
//! ```text
//! header │ record … record │                     Rest::Nothing
//! header │ record … record │ half, zeroes, junk   Rest::Torn      a write that a crash interrupted: it is cut off
//! header │ record … record │ junk │ record …      Rest::Damaged   no effect of a crash: it is reported
//! ```

use super::header::Header;
use super::record;

/// The good part of a segment, from its last jump on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Sequence of the first record.
    pub(crate) first: u64,
    /// Sequence that follows the last one.
    pub(crate) next: u64,
    /// Offset of the first record.
    pub(crate) begin: usize,
    /// Offset of the end of the good part.
    pub(crate) end: usize,
    /// True if there is a jump in it: the content of earlier segments is obsolete.
    pub(crate) jumped: bool,
    /// Range of the last record's payload; `None` if there is no record.
    pub(crate) last: Option<(usize, usize)>,
    /// Bytes after the good part.
    pub(crate) rest: Rest,
}

/// Bytes after the good part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// None: the end of the file.
    Nothing,
    /// The rest of a write that was cut off.
    Torn,
    /// Damage, with a good record after it.
    Damaged,
}

/// Reads a segment whose header of length `begin` is good.
pub(crate) fn scan(bytes: &[u8], header: &Header, begin: usize) -> Scan {
    let (first, salt) = (header.first, header.salt);
    let mut scan =
        Scan { first, next: first, begin, end: begin, jumped: false, last: None, rest: Rest::Nothing };
    loop {
        scan.advance(bytes, salt);
        let behind = bytes.get(scan.end..).unwrap_or_default();
        let Some((at, found)) = record::find(behind, salt, scan.next) else {
            scan.rest = if scan.end == bytes.len() { Rest::Nothing } else { Rest::Torn };
            return scan;
        };
        let at = scan.end + at;
        // Damage before a jump does not matter: the relay holds those events.
        let Some(jump) = next_jump(bytes, at, found, salt) else {
            scan.rest = Rest::Damaged;
            return scan;
        };
        scan.end = jump;
    }
}

impl Scan {
    /// Advances over good records in their order.
    fn advance(&mut self, bytes: &[u8], salt: u32) {
        while let Some(record) = bytes.get(self.end..).and_then(|rest| record::decode(rest, salt)) {
            let begin = self.end + record::HEADER_SIZE;
            if record.is_jump() {
                *self = Self {
                    first: record.seq.saturating_add(1),
                    next: record.seq.saturating_add(1),
                    begin,
                    end: begin,
                    jumped: true,
                    last: None,
                    rest: self.rest,
                };
            } else if record.seq == self.next {
                self.next = self.next.saturating_add(1);
                self.end += record.size();
                self.last = Some((begin, self.end));
            } else {
                return;
            }
        }
    }
}

/// Returns the offset of the first jump from the record at `at` on.
fn next_jump(bytes: &[u8], at: usize, record: record::Record<'_>, salt: u32) -> Option<usize> {
    let (mut at, mut record) = (at, record);
    while !record.is_jump() {
        let behind = at + record.size();
        let (skipped, next) = record::find(bytes.get(behind..)?, salt, record.seq)?;
        (at, record) = (behind + skipped, next);
    }
    Some(at)
}

/// Returns the payloads of all valid records after `from`, whatever is between them.
pub(crate) fn salvage(bytes: &[u8], from: usize, salt: u32, seq: u64) -> Vec<&[u8]> {
    let (mut at, mut seq, mut found) = (from, seq, Vec::new());
    while let Some((skipped, record)) = bytes.get(at..).and_then(|rest| record::find(rest, salt, seq)) {
        at += skipped + record.size();
        seq = record.seq;
        found.push(record.payload);
    }
    found
}

/// Reads a whole segment as recovery does, for the fuzz target: returns its good part, and the payloads that can be
/// found after it. Returns `None` if its header is not good.
#[cfg(feature = "internals")]
pub(crate) fn read_segment(bytes: &[u8]) -> Option<(Scan, Vec<&[u8]>)> {
    let (header, begin) = Header::decode(bytes)?;
    let found = scan(bytes, &header, begin);
    let behind = salvage(bytes, found.end, header.salt, header.first);
    Some((found, behind))
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
