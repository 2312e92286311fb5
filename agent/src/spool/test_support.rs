//! Handmade segments for the fuzz target and for tests of damage, and a reader of all events of a run.

use std::io;

use common::event::Event;
use common::wire;

use super::header::SegmentHeader;
use super::record;
use super::scan::{TrailingBytes, read_segment};
use super::{JobSpool, RunId};

/// Piece of a handmade segment.
#[derive(Debug, Clone)]
pub enum Piece<'a> {
    /// Record with this sequence number and these bytes.
    Record(u64, &'a [u8]),
    /// Jump: the relay holds everything up to this sequence number.
    Jump(u64),
    /// Any other bytes.
    Junk(&'a [u8]),
}

/// Content of a segment, as recovery finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentContent {
    /// Sequence of the first valid record.
    pub first_seq: u64,
    /// Sequence after that of the last valid record.
    pub next_seq: u64,
    /// Offset of the end of the valid part.
    pub valid_end: usize,
    /// True if a torn write follows the valid part.
    pub is_torn: bool,
    /// True if damage follows the valid part, with a valid record after it.
    pub is_damaged: bool,
    /// Number of valid records after the valid part.
    pub salvaged_count: usize,
}

/// Name of a run's first segment.
pub const FIRST_SEGMENT_NAME: &str = "events.000001";

fn run() -> Option<RunId> {
    Some(RunId { job: "a#1".parse().ok()?, epoch: 1 })
}

/// Returns a segment of the run `a.1.1`, whose first record has the sequence number `first`.
pub fn build_segment(first: u64, salt: u32, pieces: &[Piece<'_>]) -> Vec<u8> {
    let mut bytes =
        run().map(|run| SegmentHeader { run, first_seq: first, salt }.encode()).unwrap_or_default();
    for piece in pieces {
        match piece {
            Piece::Record(seq, payload) => record::append(&mut bytes, salt, *seq, payload),
            Piece::Jump(seq) => record::append(&mut bytes, salt, *seq, &[]),
            Piece::Junk(junk) => bytes.extend_from_slice(junk),
        }
    }
    bytes
}

/// Reads a segment as recovery does; returns `None` without a valid header.
pub fn scan_segment(bytes: &[u8]) -> Option<SegmentContent> {
    let (scan, salvaged) = read_segment(bytes)?;
    Some(SegmentContent {
        first_seq: scan.first_seq,
        next_seq: scan.next_seq,
        valid_end: scan.valid_end,
        is_torn: scan.trailing_bytes == TrailingBytes::Torn,
        is_damaged: scan.trailing_bytes == TrailingBytes::Damaged,
        salvaged_count: salvaged.len(),
    })
}

/// Returns an event encoded as in the spool.
pub fn event_bytes(event: &Event) -> Vec<u8> {
    wire::encode(event).unwrap_or_default()
}

/// Returns the events of a run that the spool still has.
///
/// # Errors
/// The spool can't be read.
pub fn events(run: &JobSpool) -> io::Result<Vec<Event>> {
    let first = run.lock_files().events.first_seq();
    let mut events = Vec::new();
    loop {
        let more = run.read(first + events.len() as u64, 256, 256 * 1024)?;
        if more.is_empty() {
            return Ok(events);
        }
        events.extend(more);
    }
}
