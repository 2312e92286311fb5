//! Result of a check.

use serde::Serialize;

/// State of a checked item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Correct.
    Ok,
    /// Not checked: the detail gives the reason.
    Skipped,
    /// Works with restrictions.
    Warn,
    /// Prevents relay from working.
    Fail,
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check; never renamed.
    pub check: &'static str,
    /// State of the checked item.
    pub state: State,
    /// Observation, in one line. Never a secret.
    pub detail: String,
    /// Advice, in one line; always present for `warn` and `fail`.
    pub fix: Option<String>,
}

/// Maximum length of a line, in bytes. Lines may quote output of programs.
const MAX_TEXT: usize = 400;

impl Finding {
    /// A correct item.
    pub(super) fn ok(check: &'static str, detail: impl AsRef<str>) -> Self {
        Self::new(check, State::Ok, detail.as_ref(), None)
    }

    /// An item that was not checked.
    pub(super) fn skipped(check: &'static str, why: impl AsRef<str>) -> Self {
        Self::new(check, State::Skipped, why.as_ref(), None)
    }

    /// An item that works with restrictions.
    pub(super) fn warn(check: &'static str, detail: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self::new(check, State::Warn, detail.as_ref(), Some(fix.as_ref()))
    }

    /// An item that prevents relay from working.
    pub(super) fn fail(check: &'static str, detail: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self::new(check, State::Fail, detail.as_ref(), Some(fix.as_ref()))
    }

    fn new(check: &'static str, state: State, detail: &str, fix: Option<&str>) -> Self {
        let line = |text: &str| common::text_format::one_line(text, MAX_TEXT);
        Self { check, state, detail: line(detail), fix: fix.map(line) }
    }
}
