//! Result of comparing the beginning of a text with a value.

/// Result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// The text does not begin with the value.
    Mismatch,
    /// The text ends within the value.
    Partial,
    /// The text begins with the value, which takes this number of bytes.
    Complete(usize),
}
