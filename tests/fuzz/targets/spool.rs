#![no_main]

use relay_fuzz::spool;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| spool::check(bytes));
