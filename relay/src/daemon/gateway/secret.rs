//! Secrets in memory: never shown by `Debug`.

use std::fmt;

/// A key or a token.
#[derive(Clone)]
pub(in crate::daemon) struct Secret(String);

impl Secret {
    pub(in crate::daemon) fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
