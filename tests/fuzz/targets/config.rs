#![no_main]

use relay_fuzz::config;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| config::check(bytes));
