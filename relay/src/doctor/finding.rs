//! Result of a check.

use serde::Serialize;

/// State of a checked item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The item is correct.
    Ok,
    /// The item was not checked; the detail gives the reason.
    Skipped,
    /// The item works with restrictions.
    Warn,
    /// The item prevents relay from working.
    Fail,
}

/// Result of the check of one item, an entry of the list that `relay doctor` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check; never renamed.
    pub check: &'static str,
    /// State of the checked item.
    pub state: State,
    /// Observation about the item, in one line without secrets.
    pub detail: String,
    /// Advice, in one line; always present for `warn` and `fail`.
    pub fix: Option<String>,
}

/// Maximum length of detail and advice, in bytes. Both may quote output of programs.
const MAX_TEXT_BYTES: usize = 400;

impl Finding {
    /// Builds the finding for a correct item.
    pub(super) fn ok(check: &'static str, detail: impl AsRef<str>) -> Self {
        Self::new(check, State::Ok, detail.as_ref(), None)
    }

    /// Builds the finding for an item that was not checked.
    pub(super) fn skipped(check: &'static str, reason: impl AsRef<str>) -> Self {
        Self::new(check, State::Skipped, reason.as_ref(), None)
    }

    /// Builds the finding for an item that works with restrictions.
    pub(super) fn warn(check: &'static str, detail: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self::new(check, State::Warn, detail.as_ref(), Some(fix.as_ref()))
    }

    /// Builds the finding for an item that prevents relay from working.
    pub(super) fn fail(check: &'static str, detail: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self::new(check, State::Fail, detail.as_ref(), Some(fix.as_ref()))
    }

    fn new(check: &'static str, state: State, detail: &str, fix: Option<&str>) -> Self {
        let line = |text: &str| common::text_format::one_line(text, MAX_TEXT_BYTES);
        Self { check, state, detail: line(detail), fix: fix.map(line) }
    }
}
