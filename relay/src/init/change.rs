//! Requested state of a file, and the change that results.

/// Requested state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Content present.
    Put {
        /// Replaces content changed by a person, too; the old text is kept in a copy.
        force: bool,
    },
    /// Content written by init removed.
    Remove,
}

/// Change to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
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
    pub(super) change: Change,
    /// Reason why a part of it is left unchanged.
    pub(super) kept: Option<String>,
    /// True if a person's text is replaced: the text is kept in a copy then.
    pub(super) copy: bool,
}

/// Reason to keep a file of init, or a part of one, as a person has changed it.
pub(super) const BY_HAND: &str = "changed by hand";

impl Decision {
    /// The file is correct already.
    pub(super) fn nothing() -> Self {
        Self { change: Change::None, kept: None, copy: false }
    }

    /// The file is replaced with this text.
    pub(super) fn write(text: String) -> Self {
        Self { change: Change::Write(text), kept: None, copy: false }
    }

    /// The file is deleted.
    pub(super) fn delete() -> Self {
        Self { change: Change::Delete, kept: None, copy: false }
    }

    /// The file is kept, for a reason.
    pub(super) fn kept(why: &str) -> Self {
        Self { change: Change::None, kept: Some(why.to_owned()), copy: false }
    }

    /// The file is replaced, and a person's text is kept in a copy.
    pub(super) fn replace(text: String) -> Self {
        Self { change: Change::Write(text), kept: None, copy: true }
    }
}
