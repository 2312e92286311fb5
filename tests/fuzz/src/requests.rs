//! A request to the daemon: it is read as it was written, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::internals::read_request;

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = read_request(bytes) {
        let again = serde_json::to_vec(&request).expect("a request that was read can be written");
        assert_eq!(read_request(&again), Some(request));
    }
});
