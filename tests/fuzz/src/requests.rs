//! Check of requests to the daemon: bytes are refused, or are a request that does not change when it is written and
//! read again.

use relay::internals::read_request;

/// Panics if a request changes when it is written and read again.
pub fn check(bytes: &[u8]) {
    if let Some(request) = read_request(bytes) {
        let written = serde_json::to_vec(&request).expect("a request that was read can be written");
        assert_eq!(read_request(&written), Some(request));
    }
}
