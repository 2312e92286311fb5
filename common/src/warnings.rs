//! Warnings of a job, with their count.
//!
//! Most warnings report an event. They are counted and stay valid. Other warnings report a temporary condition (a slow
//! step, an unreachable model, a stopped relay). They are not counted, and are valid only while the condition lasts.

use serde::{Deserialize, Serialize};

use crate::text_format;

/// Maximum number of warnings whose text is in a record: the newest ones.
pub const MAX_NEWEST: usize = 5;
/// Maximum length of the text of a warning in a record, in bytes. The event log has the whole text.
const MAX_TEXT: usize = 500;

/// Prefix of the warning that Codex waits for the network. Codex itself never ends this wait.
pub const WAITS_FOR_NETWORK: &str = "codex waits for the network";
/// Prefix of the warning that the relay was stopped.
pub const RELAY_WAS_STOPPED: &str = "the relay did not run for ";
/// Prefix of the warning that a worker repeats failing steps. The text has a count that grows; a newer warning replaces
/// the earlier one.
pub const NO_PROGRESS: &str = "no progress: ";
/// Text between the name of a step or job and its limit in the warning that half of the limit is used.
pub const HALF_USED: &str = " has used half of its limit of ";

/// Prefixes of the warnings that are valid only until the model answers.
const MODEL_PREFIXES: [&str; 3] = [WAITS_FOR_NETWORK, "codex retries (", "Falling back from WebSockets"];

/// The warnings of a job that report an event, with their count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warnings {
    /// Number of distinct warnings.
    pub count: u32,
    /// Texts of the newest warnings, at most [`MAX_NEWEST`], oldest first.
    pub newest: Vec<String>,
}

impl Warnings {
    /// Adds a warning, unless it reports a temporary condition. A duplicate replaces the earlier one without counting.
    pub(crate) fn add(&mut self, message: &str) {
        if is_transient(message) {
            return;
        }
        let message = text_format::truncate(message, MAX_TEXT);
        match self.newest.iter().position(|other| is_same(other, &message)) {
            Some(at) => drop(self.newest.remove(at)),
            None => self.count = self.count.saturating_add(1),
        }
        self.newest.push(message);
        if self.newest.len() > MAX_NEWEST {
            self.newest.remove(0);
        }
    }

    /// Returns the newest warnings, at most `max_warnings`, oldest first, and the number of the others.
    pub fn latest(&self, max_warnings: usize) -> (&[String], u32) {
        let shown = &self.newest[self.newest.len().saturating_sub(max_warnings)..];
        (shown, self.count.saturating_sub(u32::try_from(shown.len()).unwrap_or(u32::MAX)))
    }

    /// Formats the number of warnings: `1 warning`, `3 warnings`; `None` if there are none.
    pub fn count_text(&self) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some("1 warning".to_owned()),
            count => Some(format!("{count} warnings")),
        }
    }
}

/// Returns true for a warning that reports a temporary condition.
fn is_transient(message: &str) -> bool {
    is_model_warning(message) || message.starts_with(RELAY_WAS_STOPPED) || is_half_used(message)
}

/// Returns true for a warning that is valid only until the model answers.
pub(crate) fn is_model_warning(message: &str) -> bool {
    MODEL_PREFIXES.iter().any(|prefix| message.starts_with(prefix))
}

/// Returns true for the warning that half of a limit is used. A step's title may contain any text, so only a
/// [`HALF_USED`] directly before the limit is decisive.
fn is_half_used(message: &str) -> bool {
    let is_limit = |limit: &str| !limit.is_empty() && limit.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let subject =
        message.rsplit_once(HALF_USED).filter(|(_, limit)| is_limit(limit)).map(|(subject, _)| subject);
    subject.is_some_and(|subject| subject == "the job" || subject.starts_with("step "))
}

fn is_same(a: &str, b: &str) -> bool {
    let without_digits = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    a == b || (a.starts_with(NO_PROGRESS) && without_digits(a) == without_digits(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected<'a>(messages: impl IntoIterator<Item = &'a str>) -> Warnings {
        let mut warnings = Warnings::default();
        messages.into_iter().for_each(|message| warnings.add(message));
        warnings
    }

    #[test]
    fn each_warning_counts_once_and_the_newest_texts_are_kept() {
        let many: Vec<String> = (0..30).map(|n| format!("warning {n}")).collect();
        let warnings = collected(many.iter().map(String::as_str).chain(["warning 29"]));
        assert_eq!((warnings.count, warnings.newest), (30, many[25..].to_vec()));
        assert_eq!(collected(["a", "b", "a"]).newest, ["b", "a"]);
        let repeated = |n| format!("no progress: the same step failed {n} times: make");
        let warnings = collected([repeated(5).as_str(), "other", &repeated(10)]);
        assert_eq!(warnings.newest, ["other".to_owned(), repeated(10)]);
        let long = collected(["x".repeat(5000).as_str()]);
        assert!(long.newest[0].len() <= MAX_TEXT);
        assert_eq!(
            [0, 1, 2].map(|count| Warnings { count, newest: vec![] }.count_text()),
            [None, Some("1 warning".to_owned()), Some("2 warnings".to_owned())]
        );
    }

    #[test]
    fn a_temporary_condition_is_never_counted_and_no_title_can_imitate_one() {
        for message in [
            "codex waits for the network (Connection failed): check that the model's address can be reached",
            "codex retries (1/5: 503)",
            "Falling back from WebSockets to HTTPS transport. request timed out",
            "the relay did not run for 30 s: it was stopped, or this machine slept",
            "step 1 (install: npm ci) has used half of its limit of 1h30m",
            "the job has used half of its limit of 4h",
        ] {
            assert_eq!(collected([message]).count, 0, "{message}");
        }
        for message in [
            "still running when the worker's turn ended, and ended with it: x has used half of its limit of 1h",
            "step 1 was interrupted: 'a has used half of its limit of 1h' ran over its limit of 2h",
        ] {
            assert_eq!(collected([message]).count, 1, "{message}");
        }
    }
}
