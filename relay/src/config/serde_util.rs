//! Types shared by all tables of `relay.toml`.

use std::ops::Range;

use common::duration;
use serde::Deserialize;

/// Default program of Codex, looked up on `PATH`.
pub const DEFAULT_CODEX_PROGRAM: &str = "codex";

/// Duration that is written as `90s` or `10m`, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Millis(pub(super) u64);

impl TryFrom<String> for Millis {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        duration::parse_duration(&text).map(|value| Self(duration::to_millis(value)))
    }
}

/// Error in `relay.toml`.
#[derive(Debug)]
pub(super) struct ConfigError {
    /// Byte range of the wrong value in the file.
    pub(super) range: Range<usize>,
    /// Description of the error, in one line.
    pub(super) reason: String,
}
