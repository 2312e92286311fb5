//! Frames from an agent: a frame is refused or read back as it was, and never takes more memory than two of the
//! longest.

#![no_main]

use common::wire::{self, AgentFrame};
use libfuzzer_sys::fuzz_target;
use relay_fuzz::{Memory, frame};

#[global_allocator]
static MEMORY: Memory = Memory;

fuzz_target!(|bytes: &[u8]| {
    frame::<AgentFrame>(&MEMORY, bytes);
    // The part of a hello that is understood in every version.
    if let Ok(greeting) = wire::decode_hello_prefix(bytes) {
        let whole = wire::decode_hello(bytes, &greeting);
        if let Ok(Some(hello)) = whole {
            assert_eq!((hello.protocol_max, hello.version), (greeting.protocol_max, greeting.version));
        }
    }
});
