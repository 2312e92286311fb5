//! Frames from an agent: a frame is refused or read back as it was, and never takes more memory than two of the
//! longest.

use common::wire::{self, AgentFrame};

use super::frame;

/// Panics if a frame is read wrongly.
pub fn check(bytes: &[u8]) {
    frame::<AgentFrame>(bytes);
    // The part of a hello that is understood in every version.
    if let Ok(greeting) = wire::decode_hello_prefix(bytes) {
        let whole = wire::decode_hello(bytes, &greeting);
        if let Ok(Some(hello)) = whole {
            assert_eq!((hello.protocol_max, hello.version), (greeting.protocol_max, greeting.version));
        }
    }
}
