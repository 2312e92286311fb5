//! Types shared by all tables of the file.

use std::ops::Range;

use common::duration;
use serde::Deserialize;

/// Default program of Codex, looked up on `PATH`.
pub const DEFAULT_CODEX_PROGRAM: &str = "codex";

/// A human duration, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Millis(pub(super) u64);

impl TryFrom<String> for Millis {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        duration::parse_duration(&text).map(|value| Self(duration::to_millis(value)))
    }
}

/// An error in the file.
#[derive(Debug)]
pub(super) struct ConfigError {
    /// Byte range of the error.
    pub(super) range: Range<usize>,
    /// Description of the error, in one line.
    pub(super) reason: String,
}
