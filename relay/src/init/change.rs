//! Requested state of a file that init writes, and the change that results.

/// Requested state of a file that init writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The content of init is present.
    Put {
        /// True to replace also content that a person has changed, of which a copy is kept.
        force: bool,
    },
    /// The content of init is removed.
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
    /// True if a person's text is replaced, of which a copy is kept.
    pub(super) keeps_copy: bool,
}

/// Reason to keep a file of init, or a part of it, that a person has changed.
pub(super) const CHANGED_BY_HAND: &str = "changed by hand";

impl Decision {
    /// Builds the decision for a file that is already correct.
    pub(super) fn nothing() -> Self {
        Self { change: FileChange::None, kept_reason: None, keeps_copy: false }
    }

    /// Builds the decision to replace the file with this text.
    pub(super) fn write(text: String) -> Self {
        Self { change: FileChange::Write(text), kept_reason: None, keeps_copy: false }
    }

    /// Builds the decision to delete the file.
    pub(super) fn delete() -> Self {
        Self { change: FileChange::Delete, kept_reason: None, keeps_copy: false }
    }

    /// Builds the decision to keep the file, for a reason.
    pub(super) fn kept(reason: &str) -> Self {
        Self { change: FileChange::None, kept_reason: Some(reason.to_owned()), keeps_copy: false }
    }

    /// Builds the decision to replace the file and to keep a person's text in a copy.
    pub(super) fn replace(text: String) -> Self {
        Self { change: FileChange::Write(text), kept_reason: None, keeps_copy: true }
    }
}
