//! A request to the daemon: it is read as it was written, or refused.

use relay::internals::read_request;

/// Panics if a request changes when it is written and read again.
pub fn check(bytes: &[u8]) {
    if let Some(request) = read_request(bytes) {
        let again = serde_json::to_vec(&request).expect("a request that was read can be written");
        assert_eq!(read_request(&again), Some(request));
    }
}
