#![no_main]

use relay_fuzz::codex;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| codex::check(bytes));
