#![no_main]

use relay_fuzz::requests;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| requests::check(bytes));
