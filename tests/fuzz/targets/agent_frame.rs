#![no_main]

use relay_fuzz::agent_frame;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_frame::check(bytes));
