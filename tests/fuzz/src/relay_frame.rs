//! Check of frames from a relay: bytes are refused, or decoded to a frame that does not change when it is encoded and
//! decoded again. That takes at most twice the memory of the longest frame.

use common::wire::RelayFrame;

use super::check_frame;

/// Panics if the bytes are decoded wrongly.
pub fn check(bytes: &[u8]) {
    check_frame::<RelayFrame>(bytes);
}
