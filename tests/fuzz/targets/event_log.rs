#![no_main]

use relay_fuzz::event_log;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| event_log::check(bytes));
