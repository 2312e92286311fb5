#![no_main]

use relay_fuzz::relay_frame;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| relay_frame::check(bytes));
