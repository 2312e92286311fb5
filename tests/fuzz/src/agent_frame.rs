//! Check of frames from an agent: bytes are refused, or decoded to a frame that does not change when it is encoded and
//! decoded again. That takes at most twice the memory of the longest frame.

use common::wire::{self, AgentFrame};

use super::check_frame;

/// Panics if the bytes are decoded wrongly.
pub fn check(bytes: &[u8]) {
    check_frame::<AgentFrame>(bytes);
    // The prefix of a `Hello` must agree with the whole.
    if let Ok(prefix) = wire::decode_hello_prefix(bytes) {
        let whole = wire::decode_hello(bytes, &prefix);
        if let Ok(Some(hello)) = whole {
            assert_eq!((hello.protocol_max, hello.version), (prefix.protocol_max, prefix.version));
        }
    }
}
