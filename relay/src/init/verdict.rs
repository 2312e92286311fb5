//! What is wanted of a file, and what is done with it.

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It is to be there.
    Put {
        /// What a person changed is replaced, too; the old text stays in a copy.
        force: bool,
    },
    /// What init wrote is to go.
    Remove,
}

/// What happens to the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It is this text from now on.
    Write(String),
    /// It goes.
    Delete,
}

/// The judgement of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What happens to it.
    pub(super) change: Change,
    /// Why something in it is left as it is.
    pub(super) kept: Option<String>,
    /// Whether a person's text goes: it is kept in a copy then.
    pub(super) copy: bool,
}

/// Why a file of init's own, or a part of one, is left alone.
pub(super) const BY_HAND: &str = "changed by hand";

impl Verdict {
    /// All is well as it is.
    pub(super) fn nothing() -> Self {
        Self { change: Change::None, kept: None, copy: false }
    }

    /// The file becomes this text.
    pub(super) fn write(text: String) -> Self {
        Self { change: Change::Write(text), kept: None, copy: false }
    }

    /// The file goes.
    pub(super) fn delete() -> Self {
        Self { change: Change::Delete, kept: None, copy: false }
    }

    /// The file stays, for a reason.
    pub(super) fn kept(why: &str) -> Self {
        Self { change: Change::None, kept: Some(why.to_owned()), copy: false }
    }

    /// A person's text is replaced.
    pub(super) fn replace(text: String) -> Self {
        Self { change: Change::Write(text), kept: None, copy: true }
    }
}
