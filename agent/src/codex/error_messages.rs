//! Parser of Codex's messages about its model server, which turns each into one line that a user can act on. Pure.
//!
//! ```text
//!  "Reconnecting... 3/5 (WORDS)"                 ─► Retry    a notice, which decides nothing
//!  "Reconnecting... waiting for network (WORDS)" ─► Network  a notice; Codex will never give up
//!  "WORDS"                                       ─► the end of the turn
//! ```
//!
//! Codex's words explain an outcome and never decide it. Advice comes from an HTTP error status in the text or from a
//! row of `MEANINGS`, and is general for a JSON body; any other text is shown without advice. Codex's own words follow
//! the advice, so that nothing is lost if it is wrong. The marks of each row were seen with Codex 0.169.0
//! (`tests/transcripts`), or are in its binary.

use common::event::FailureKind as Kind;
use common::event::{FailureKind, MAX_TEXT};
use common::text_format;
use jiff::civil::{DateTime, Time};
use jiff::{SignedDuration, Timestamp, Zoned};
use serde_json::Value;

/// Maximum length of Codex's own words, in bytes.
const MAX_MESSAGE: usize = 300;
/// Maximum length of a name or time that is extracted from Codex's words, in bytes.
const MAX_DETAIL: usize = 60;

/// Codex's reaction to an error of the model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Codex tries again. Contains the count of tries, as in `3/5`.
    Counted(String),
    /// Codex waits for the network, without a limit.
    Network,
}

/// An error of the model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelError {
    /// Retry in progress; `None` if Codex has given up.
    pub(crate) retry: Option<Retry>,
    /// Codex's own words, shortened.
    codex_message: String,
    /// Kind of failure and advice; `None` if only Codex's own words are shown.
    advice: Option<(FailureKind, String)>,
}

/// A kind of failure, and advice for the user.
type FailureMeaning = (FailureKind, &'static str);

/// Rows of marks with a meaning. A text has the meaning of the first row with a mark in the text's lower-case form.
///
/// The most specific rows come first: the message of a broken stream also contains the server's reason.
const MEANINGS: &[(&[&str], FailureMeaning)] = &[
    (
        &["requires a newer version of codex"],
        (
            Kind::CodexOutdated,
            "the model needs a newer codex: update it where the worker runs, or choose another model with --model",
        ),
    ),
    (
        &["could not be refreshed", "log out and sign in again"],
        (
            Kind::Auth,
            "the login of codex is no longer valid: log in again with codex login where the worker runs",
        ),
    ),
    (
        &["hit your usage limit", "usage_limit_reached", "usage limit reached"],
        (Kind::UsageLimit, USAGE_LIMIT_REACHED),
    ),
    (
        &["quota exceeded", "insufficient_quota", "exceeded your current quota", "spend_limit_exceeded"],
        (Kind::UsageLimit, "the account's quota is used up: check its plan and billing"),
    ),
    (
        &["context window", "context_length_exceeded", "maximum context length"],
        (
            Kind::ContextWindow,
            "the task no longer fits into the model's context window: split it, or launch a new, shorter job",
        ),
    ),
    (
        &["missing environment variable"],
        (
            Kind::Auth,
            "a variable that the model's provider needs is not set: give it to the worker with --env",
        ),
    ),
    (
        &["to use codex with your chatgpt plan", "usage_not_included"],
        (Kind::Auth, "the account's plan does not include codex: upgrade it, or use an API key"),
    ),
    (
        &["model is at capacity", "capacity is unavailable", "capacity unavailable", "server_overloaded"],
        (
            Kind::Overloaded,
            "the model has no capacity left: try again later, or choose another model with --model",
        ),
    ),
    (&["high demand"], (Kind::Overloaded, SERVER_ERROR_ADVICE)),
    (
        &["content_filter", "content_policy", "policy violation", "has been flagged", "was flagged"],
        (Kind::CodexError, "the model's server refused the content of the task: rephrase it"),
    ),
    (&["rate limit", "rate_limit"], (Kind::RateLimited, RATE_LIMIT_ADVICE)),
    (
        &["waiting for network", "connection failed", "error sending request", "dns error"],
        (Kind::CodexError, "the model's server can't be reached: check its address and the network"),
    ),
    (
        &["request timed out", "operation timed out"],
        (
            Kind::CodexError,
            "the model's server did not answer in time: check its address and the network, or try again",
        ),
    ),
    (
        &["idle timeout waiting for"],
        (Kind::CodexError, "the model's server began to answer and then stopped: try again"),
    ),
    (
        &["stream disconnected", "stream closed before", "error decoding response body"],
        (Kind::CodexError, "the model's server interrupted its answer: try again"),
    ),
];

const USAGE_LIMIT_REACHED: &str = "the usage limit of the account is reached";
const SERVER_ERROR_ADVICE: &str = "the model's server reported an internal error: try again later";
const RATE_LIMIT_ADVICE: &str =
    "the model's server accepts no more requests for now: try again later, or run fewer workers at once";
const BAD_REQUEST_ADVICE: &str = "the model's server refused the request as it stands";

/// Parses the text of an `error` or `turn.failed` event. `now` is the current time in Codex's time zone.
pub(crate) fn parse(message: &str, now: &Zoned) -> ModelError {
    let (retry, message) = strip_retry(message.trim());
    let body = parse_body(message);
    let words = text_format::one_line(body.as_ref().map_or(message, |body| &body.message), MAX_MESSAGE);
    let advice = match &body {
        Some(body) => Some(
            find_meaning(&body.search_text, now)
                .unwrap_or_else(|| (Kind::CodexError, BAD_REQUEST_ADVICE.to_owned())),
        ),
        None => find_meaning(message, now),
    };
    ModelError { retry, codex_message: words, advice }
}

/// Returns the text of a warning: the server's message if the text is the answer of a server, and otherwise the text.
pub(crate) fn warning_text(text: &str) -> String {
    let body = parse_body(text.trim());
    text_format::one_line(body.as_ref().map_or(text, |body| &body.message), MAX_TEXT)
}

impl ModelError {
    /// Returns true if the message is about the model server. Codex also sends messages about other things.
    pub(crate) fn concerns_model_server(&self) -> bool {
        self.retry.is_some() || self.advice.is_some()
    }

    /// Returns true if Codex has given up because the account's usage limit is reached.
    pub(crate) fn is_usage_limit(&self) -> bool {
        self.retry.is_none() && self.failure_kind() == Kind::UsageLimit
    }

    /// Returns the kind of failure of a turn that ended with this error.
    pub(crate) fn failure_kind(&self) -> FailureKind {
        self.advice.as_ref().map_or(FailureKind::CodexError, |(kind, _)| *kind)
    }

    /// Returns the reason why a turn failed.
    pub(crate) fn failure_reason(&self) -> String {
        match &self.advice {
            Some((_, advice)) => format!("{advice} (codex: {})", self.codex_message),
            None if self.codex_message.is_empty() => {
                "codex ended its turn early, without a reason".to_owned()
            }
            None => format!("codex ended its turn early: {}", self.codex_message),
        }
    }

    /// Describes Codex's reaction to the error, for display.
    pub(crate) fn retry_notice(&self) -> String {
        let words = self.codex_message.strip_prefix("unexpected status ").unwrap_or(&self.codex_message);
        let colon = if words.is_empty() { "" } else { ": " };
        match &self.retry {
            Some(Retry::Counted(count)) => format!("codex retries ({count}{colon}{words})"),
            Some(Retry::Network) => format!(
                "codex waits for the network ({words}): check that the model's address can be reached"
            ),
            None => format!("codex reports: {words}"),
        }
    }
}

/// Splits a text into Codex's notice of a retry, if it has one, and the rest.
fn strip_retry(message: &str) -> (Option<Retry>, &str) {
    let Some(rest) = message.strip_prefix("Reconnecting... ") else { return (None, message) };
    let (what, codex_words) = match rest.split_once(" (") {
        Some((what, codex_words)) => (what, codex_words.strip_suffix(')').unwrap_or(codex_words)),
        None => (rest, ""),
    };
    let retry = match what {
        "waiting for network" => Retry::Network,
        count => Retry::Counted(text_format::one_line(count, MAX_DETAIL)),
    };
    (Some(retry), codex_words)
}

struct ErrorBody {
    /// The server's message, or the whole body.
    message: String,
    /// Text that is searched for the marks of `MEANINGS`.
    search_text: String,
}

/// Parses the server's answer to a request that it refused: JSON with the server's message, unchanged by Codex.
fn parse_body(message: &str) -> Option<ErrorBody> {
    let value: Value = message.starts_with('{').then(|| serde_json::from_str(message).ok())??;
    let error = if value["error"].is_object() { &value["error"] } else { &value };
    let field = |name: &str| error[name].as_str().unwrap_or_default();
    let words = [field("message"), field("detail"), value["error"].as_str().unwrap_or_default(), message];
    let words = words.into_iter().find(|words| !words.is_empty()).unwrap_or_default().to_owned();
    Some(ErrorBody { search_text: format!("{} {} {words}", field("code"), field("type")), message: words })
}

fn find_meaning(message: &str, now: &Zoned) -> Option<(FailureKind, String)> {
    let lower = message.to_lowercase();
    let status = http_status(&lower).and_then(meaning_of_status);
    let row = MEANINGS.iter().find(|(marks, _)| marks.iter().any(|mark| lower.contains(mark)));
    let row_meaning = row.map(|(_, meaning)| *meaning);
    if let Some((kind, USAGE_LIMIT_REACHED)) = row_meaning {
        return Some((kind, usage_limit_advice(message, now)));
    }
    // The status comes from the server, while the rest of the line may be any text, so the status takes precedence. A
    // status without a specific meaning is used last.
    let (kind, advice) =
        status.filter(|(_, advice)| *advice != BAD_REQUEST_ADVICE).or(row_meaning).or(status)?;
    Some((kind, with_variable_name(advice, message)))
}

/// Returns the end of the usage limit that a failed turn reports, if Codex names it. `now` is the current time in
/// Codex's time zone. Codex names the minute in which the limit ends, so the end is that of the minute.
pub(crate) fn usage_limit_end(message: &str, now: &Zoned) -> Option<Timestamp> {
    let rest = text_after(message, "try again at ")?;
    let minute = parse_reset_time(text_format::one_line(rest, MAX_DETAIL).trim_end_matches('.'), now)?;
    minute.timestamp().checked_add(SignedDuration::from_mins(1)).ok()
}

/// Returns the text after a mark in lower case. Codex begins a sentence with it for some plans.
fn text_after<'a>(message: &'a str, mark: &str) -> Option<&'a str> {
    let at = message.to_ascii_lowercase().find(mark)?;
    message.get(at + mark.len()..)
}

/// Returns the advice for a usage limit. It repeats the reset time, because Codex's words, quoted behind it, may be cut
/// off before they name it.
fn usage_limit_advice(message: &str, now: &Zoned) -> String {
    for (mark, phrase) in [("try again at ", "try again at"), ("try again in ", "try again in")] {
        if let Some(rest) = text_after(message, mark) {
            let rest = text_format::one_line(rest, MAX_DETAIL);
            let time = rest.trim_end_matches('.');
            let time = format_reset_time(time, now).unwrap_or_else(|| time.to_owned());
            return format!("{USAGE_LIMIT_REACHED}: {phrase} {time}, or add credits");
        }
    }
    format!("{USAGE_LIMIT_REACHED}: try again later, or add credits")
}

/// Adds the zone to a reset time, because a reader may be in another zone.
fn format_reset_time(text: &str, now: &Zoned) -> Option<String> {
    Some(parse_reset_time(text, now)?.strftime("%Y-%m-%d %H:%M%:z").to_string())
}

/// Parses a reset time. Codex prints it in its own zone: `5:53 PM`, or `Jan 1st, 2100 5:53 AM` on another day.
fn parse_reset_time(text: &str, now: &Zoned) -> Option<Zoned> {
    let time = match text.split_once(", ") {
        Some((day, rest)) => {
            let day = day.trim_end_matches(|c: char| c.is_ascii_lowercase());
            DateTime::strptime("%b %d, %Y %I:%M %p", format!("{day}, {rest}")).ok()?
        }
        None => now.date().to_datetime(Time::strptime("%I:%M %p", text).ok()?),
    };
    time.to_zoned(now.time_zone().clone()).ok()
}

/// Returns `advice`, or advice that names the missing variable if the message is about one.
fn with_variable_name(advice: &str, message: &str) -> String {
    let name =
        message.split_once("issing environment variable: `").and_then(|(_, rest)| rest.split_once('`'));
    match name {
        Some((name, _)) => {
            let name = text_format::one_line(name, MAX_DETAIL);
            format!("the model's key is not set: give {name} to the worker with --env {name}")
        }
        None => advice.to_owned(),
    }
}

/// Returns the HTTP status in a text like `unexpected status 503 …` or `last status: 429 …`.
fn http_status(lower: &str) -> Option<u16> {
    let marks = ["unexpected status ", "last status: "];
    let rest = marks.iter().find_map(|mark| lower.split_once(mark).map(|(_, rest)| rest))?;
    rest.get(..3)?.parse().ok()
}

fn meaning_of_status(status: u16) -> Option<FailureMeaning> {
    Some(match status {
        401 => (
            Kind::Auth,
            "the model's server refused the key: check CODEX_API_KEY, or log in again with codex login",
        ),
        403 => (
            Kind::Auth,
            "the model's server forbids this: check that the account may use the model from this location",
        ),
        404 => (Kind::CodexError, "the model's server does not know the model or the address: check both"),
        408 | 504 => (Kind::CodexError, "the model's server did not answer in time: try again later"),
        429 => (Kind::RateLimited, RATE_LIMIT_ADVICE),
        400..500 => (Kind::CodexError, BAD_REQUEST_ADVICE),
        500.. => (Kind::Overloaded, SERVER_ERROR_ADVICE),
        _ => return None,
    })
}

/// Finds the reason why the thread could not be resumed in Codex's last lines on stderr, and returns it as one line
/// that a user can act on; `None` if these lines are about something else. Codex 0.169.0 prints the reason only on
/// stderr, and exits with 1 before any turn.
pub(crate) fn resume_failure_reason(stderr: &str) -> Option<&'static str> {
    if stderr.contains("no rollout found for thread id") {
        return Some("the Codex thread is gone: launch a new job");
    }
    if stderr.contains("already has an active writer") {
        return Some("another process uses the same Codex thread: wait until it ends, then resume again");
    }
    None
}

#[cfg(test)]
#[path = "error_messages_tests.rs"]
mod tests;
