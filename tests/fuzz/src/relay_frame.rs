//! Frames from a relay: a frame is refused or read back as it was, and never takes more memory than two of the longest.

#![no_main]

use common::wire::RelayFrame;
use libfuzzer_sys::fuzz_target;
use relay_fuzz::{Memory, frame};

#[global_allocator]
static MEMORY: Memory = Memory;

fuzz_target!(|bytes: &[u8]| frame::<RelayFrame>(&MEMORY, bytes));
