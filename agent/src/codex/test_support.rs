//! Access to the parsers, for the fuzz target.

use super::event::parse;
use super::lines::{Line, LineSplitter};

/// Parses Codex's output, cut into pieces of `piece_size` bytes; returns the number of events.
pub fn codex_events(bytes: &[u8], piece_size: usize) -> usize {
    let mut splitter = LineSplitter::default();
    let mut lines = Vec::new();
    for piece in bytes.chunks(piece_size.max(1)) {
        splitter.push(piece, |line| lines.push(line));
    }
    lines.extend(splitter.finish());
    lines.iter().filter_map(parse).count()
}

/// Parses the two ends of an over-long line of Codex; returns true if it is an event.
pub fn codex_truncated(head: &[u8], tail: &[u8]) -> bool {
    parse(&Line::Truncated { head: head.to_vec(), tail: tail.to_vec(), dropped_bytes: 1 }).is_some()
}
