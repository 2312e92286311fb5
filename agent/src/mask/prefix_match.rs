//! Result of comparing the beginning of a text with a value.

/// Result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// The text is something else.
    Mismatch,
    /// The text ends within the value.
    Partial,
    /// The value takes so many bytes.
    Complete(usize),
}
