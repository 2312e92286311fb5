//! Output of Codex: any bytes form lines, in whatever pieces they arrive, and any line is an event or an unknown one.

use worker_agent::internals::{codex_events, codex_truncated};

/// Panics if a line depends on the pieces in which it arrives. The last byte of the input sets their size.
pub fn check(input: &[u8]) {
    let Some((&at, bytes)) = input.split_last() else { return };
    let whole = codex_events(bytes, bytes.len());
    assert_eq!(codex_events(bytes, 1 + 4 * usize::from(at)), whole);
    let (head, tail) = bytes.split_at(bytes.len() * usize::from(at) / 256);
    codex_truncated(head, tail);
}
