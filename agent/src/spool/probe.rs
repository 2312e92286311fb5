//! Segments made and read by hand, for the fuzz target and for tests of every damage.

use common::wire;

use super::RunId;
use super::header::Header;
use super::record;
use super::scan::{Rest, read_segment};

/// What a segment is made of.
#[derive(Debug, Clone)]
pub enum Piece<'a> {
    /// A record with this sequence and these bytes.
    Record(u64, &'a [u8]),
    /// The relay holds everything up to this sequence.
    Jump(u64),
    /// Anything else.
    Junk(&'a [u8]),
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Sequence of the first record that counts.
    pub first: u64,
    /// The sequence that follows the last one.
    pub next: u64,
    /// Where the good part ends.
    pub end: usize,
    /// Whether a write was cut off behind it.
    pub torn: bool,
    /// Whether something bad is behind it with a good record behind that.
    pub damaged: bool,
    /// How many good records are behind the good part.
    pub salvaged: usize,
}

/// Name of a run's first segment.
pub const FIRST: &str = "events.000001";

fn run() -> Option<RunId> {
    Some(RunId { job: "a#1".parse().ok()?, epoch: 1 })
}

/// A segment of the run `a.1.1`, whose first record has this sequence.
pub fn segment(first: u64, salt: u32, pieces: &[Piece<'_>]) -> Vec<u8> {
    let mut bytes = run().map(|run| Header { run, first, salt }.bytes()).unwrap_or_default();
    for piece in pieces {
        match piece {
            Piece::Record(seq, payload) => record::push(&mut bytes, salt, *seq, payload),
            Piece::Jump(seq) => record::push(&mut bytes, salt, *seq, &[]),
            Piece::Junk(junk) => bytes.extend_from_slice(junk),
        }
    }
    bytes
}

/// Reads a segment as a start does; none without a good header.
pub fn scanned(bytes: &[u8]) -> Option<Scanned> {
    let (scan, behind) = read_segment(bytes)?;
    Some(Scanned {
        first: scan.first,
        next: scan.next,
        end: scan.end,
        torn: scan.rest == Rest::Torn,
        damaged: scan.rest == Rest::Damaged,
        salvaged: behind.len(),
    })
}

/// The bytes of an event, as the spool keeps them.
pub fn event_bytes(event: &common::event::Event) -> Vec<u8> {
    wire::encode(event).unwrap_or_default()
}
