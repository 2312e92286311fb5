//! Output of Codex: any bytes form lines, in whatever pieces they arrive, and any line is an event or an unknown one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use worker_agent::internals::{codex_truncated, codex_events};

fuzz_target!(|input: (u8, &[u8])| {
    let (at, bytes) = input;
    let whole = codex_events(bytes, bytes.len());
    assert_eq!(codex_events(bytes, 1 + 4 * usize::from(at)), whole);
    let (head, tail) = bytes.split_at(bytes.len() * usize::from(at) / 256);
    codex_truncated(head, tail);
});
