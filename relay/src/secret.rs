//! Secrets in memory: never shown by `Debug`, compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq;

/// Minimum length of a secret that is masked in texts, in bytes. Shorter values, such as a version number in a
/// configured header, also occur in harmless text.
const MIN_MASKED: usize = 8;
const MASK: &str = "[secret]";

/// A key, a token or another value that must not be shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns true for the same value, in a time that doesn't depend on the position of a difference.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// Returns true if a text contains the secret and must not be passed on as it is.
    pub fn occurs_in(&self, text: &[u8]) -> bool {
        self.0.len() >= MIN_MASKED && memchr::memmem::find(text, self.0.as_bytes()).is_some()
    }

    /// Replaces the secret in a text.
    pub fn mask(&self, text: String) -> String {
        if self.occurs_in(text.as_bytes()) { text.replace(&self.0, MASK) } else { text }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_neither_shown_nor_left_in_a_text() {
        let secret = Secret::new("sk-12345678");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.mask("key sk-12345678 is bad".to_owned()), "key [secret] is bad");
        assert_eq!(Secret::new("1").mask("1 of 12".to_owned()), "1 of 12");
    }

    #[test]
    fn only_the_same_value_matches() {
        let secret = Secret::new("token");
        assert!(secret.matches(b"token"));
        for other in [&b""[..], b"tokem", b"toke", b"token1", b"\xff"] {
            assert!(!secret.matches(other), "{other:?}");
        }
    }
}
