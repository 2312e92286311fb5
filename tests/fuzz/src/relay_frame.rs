//! Frames from a relay: a frame is refused or read back as it was, and never takes more memory than two of the longest.

use common::wire::RelayFrame;

use super::frame;

/// Panics if a frame is read wrongly.
pub fn check(bytes: &[u8]) {
    frame::<RelayFrame>(bytes);
}
