//! Check of Codex's output: any bytes are split into lines, however they are divided into chunks, and any line is an
//! event of Codex or an unknown line.

use worker_agent::internals::{codex_events, codex_truncated};

/// Panics if the events depend on the size of the chunks in which the bytes arrive: the last byte of the input.
pub fn check(input: &[u8]) {
    let Some((&size, bytes)) = input.split_last() else { return };
    let events = codex_events(bytes, bytes.len());
    assert_eq!(codex_events(bytes, 1 + 4 * usize::from(size)), events);
    let (head, tail) = bytes.split_at(bytes.len() * usize::from(size) / 256);
    codex_truncated(head, tail);
}
