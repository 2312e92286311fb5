//! What a check says.

use serde::Serialize;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not looked at: the detail says why.
    Skipped,
    /// It works, but not as well as it could, or not for everything.
    Warn,
    /// It stands in the way.
    Fail,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; never renamed.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, in one line. Never a secret.
    pub detail: String,
    /// What to do, in one line; always there for `warn` and `fail`.
    pub fix: Option<String>,
}

/// Longest line, in bytes: programs are quoted in them.
const MAX: usize = 400;

impl Finding {
    /// As it should be.
    pub(super) fn ok(check: &'static str, detail: impl AsRef<str>) -> Self {
        Self::new(check, State::Ok, detail.as_ref(), None)
    }

    /// Not looked at.
    pub(super) fn skipped(check: &'static str, why: impl AsRef<str>) -> Self {
        Self::new(check, State::Skipped, why.as_ref(), None)
    }

    /// Not as good as it could be.
    pub(super) fn warn(check: &'static str, detail: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self::new(check, State::Warn, detail.as_ref(), Some(fix.as_ref()))
    }

    /// In the way.
    pub(super) fn fail(check: &'static str, detail: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self::new(check, State::Fail, detail.as_ref(), Some(fix.as_ref()))
    }

    fn new(check: &'static str, state: State, detail: &str, fix: Option<&str>) -> Self {
        let line = |text: &str| common::text::one_line(text, MAX);
        Self { check, state, detail: line(detail), fix: fix.map(line) }
    }
}
