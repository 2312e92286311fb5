//! Requested state of a file, and the change that results.

/// Requested state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Content present.
    Put {
        /// True to replace content that a person has changed too; a copy of the old text is kept.
        force: bool,
    },
    /// Content written by init removed.
    Remove,
}

/// Change to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileChange {
    None,
    /// Replace the content with this text.
    Write(String),
    /// Delete the file.
    Delete,
}

/// Decision about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// Change to the file.
    pub(super) change: FileChange,
    /// Reason why a part of the file is left unchanged.
    pub(super) kept_reason: Option<String>,
    /// True if a person's text is replaced, so that a copy is kept.
    pub(super) keep_copy: bool,
}

/// Reason to keep a file of init, or a part of it, that a person has changed.
pub(super) const CHANGED_BY_HAND: &str = "changed by hand";

impl Decision {
    /// The file is already correct.
    pub(super) fn nothing() -> Self {
        Self { change: FileChange::None, kept_reason: None, keep_copy: false }
    }

    /// The file is replaced with this text.
    pub(super) fn write(text: String) -> Self {
        Self { change: FileChange::Write(text), kept_reason: None, keep_copy: false }
    }

    /// The file is deleted.
    pub(super) fn delete() -> Self {
        Self { change: FileChange::Delete, kept_reason: None, keep_copy: false }
    }

    /// The file is kept, for a reason.
    pub(super) fn kept(why: &str) -> Self {
        Self { change: FileChange::None, kept_reason: Some(why.to_owned()), keep_copy: false }
    }

    /// The file is replaced, and a person's text is kept in a copy.
    pub(super) fn replace(text: String) -> Self {
        Self { change: FileChange::Write(text), kept_reason: None, keep_copy: true }
    }
}
