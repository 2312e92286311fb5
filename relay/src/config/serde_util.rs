//! Types shared by all parts of the file's form.

use std::ops::Range;

use common::duration;
use serde::Deserialize;

/// Default program of Codex, looked up on `PATH`.
pub const CODEX: &str = "codex";

/// A human duration, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Millis(pub(super) u64);

impl TryFrom<String> for Millis {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        duration::parse(&text).map(|value| Self(duration::millis(value)))
    }
}

/// A mistake in the file.
#[derive(Debug)]
pub(super) struct ConfigError {
    /// Byte range of the mistake.
    pub(super) at: Range<usize>,
    /// Description of the mistake, in one line.
    pub(super) reason: String,
}
