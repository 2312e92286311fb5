#![no_main]

use relay_fuzz::records;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| records::check(bytes));
