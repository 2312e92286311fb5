//! Result of an answer of the model: token counts and errors, read from its JSON (pure).

use common::event::Usage;
use serde_json::Value;

/// Largest count that is read from a number with a decimal point: larger ones are not exact.
const MAX_WHOLE_FLOAT: f64 = 9_007_199_254_740_992.0;

/// Result of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Tokens of the answer, if it has them.
    pub(super) usage: Option<Usage>,
    /// Number of the input tokens that were written to a cache, which costs more.
    pub(super) cache_written: u64,
    /// Name of the model that answered, if the answer has it.
    pub(super) model: Option<String>,
    /// Error that ended the answer.
    pub(super) error: Option<ErrorFields>,
}

/// Fields of an error of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ErrorFields {
    /// `type`, such as `usage_limit_reached`.
    pub(super) kind: String,
    /// `code`, such as `context_length_exceeded`.
    pub(super) code: String,
    /// Words for people.
    pub(super) message: String,
    /// Unix time at which a limit ends.
    pub(super) resets_at: Option<i64>,
    /// Seconds until a limit ends.
    pub(super) resets_in_seconds: Option<i64>,
}

impl ErrorFields {
    /// Reads an error object, or a text in its place.
    pub(super) fn from_json(error: &Value) -> Self {
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        // Some servers send times as fractions.
        #[expect(clippy::cast_possible_truncation, reason = "a time beyond the range is out of any calendar")]
        let seconds =
            |name: &str| error[name].as_i64().or_else(|| error[name].as_f64().map(|time| time as i64));
        Self {
            kind: text("type"),
            code: text("code"),
            message: error.as_str().map_or_else(|| text("message"), str::to_owned),
            resets_at: seconds("resets_at"),
            resets_in_seconds: seconds("resets_in_seconds"),
        }
    }

    /// Reads the body of an answer that is an error. Servers name it `error` or `detail`, or have it at the top.
    pub(super) fn from_body(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return Self::default() };
        let place = ["error", "detail"].into_iter().find(|name| !body[name].is_null());
        Self::from_json(place.map_or(&body, |name| &body[name]))
    }
}

/// Token counts of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) usage: Usage,
    /// Number of the input tokens that were written to a cache.
    pub(super) cache_written: u64,
}

impl Counts {
    /// Reads token counts; `None` without any.
    pub(super) fn from_json(usage: &Value) -> Option<Self> {
        let cache_written = read_count(&usage["cache_creation_input_tokens"]).unwrap_or_default();
        read_usage(usage, cache_written).map(|usage| Self { usage, cache_written })
    }

    /// Returns the result of an answer with these counts.
    pub(super) fn into_reading(self, model: Option<String>, error: Option<ErrorFields>) -> Reading {
        Reading { usage: Some(self.usage), cache_written: self.cache_written, model, error }
    }
}

/// Reads token counts, in the names of the Responses API, of older APIs or of the Messages API; `None` without any. A
/// detail that is missing is 0.
fn read_usage(usage: &Value, cache_written: u64) -> Option<Usage> {
    let count = |names: [&str; 2]| names.iter().find_map(|name| read_count(&usage[*name]));
    let detail =
        |names: [&str; 2], detail: &str| names.iter().find_map(|name| read_count(&usage[*name][detail]));
    let input = count(["input_tokens", "prompt_tokens"]);
    let output = count(["output_tokens", "completion_tokens"]);
    input.or(output)?;
    let cached = detail(["input_tokens_details", "prompt_tokens_details"], "cached_tokens");
    let reasoning = detail(["output_tokens_details", "completion_tokens_details"], "reasoning_tokens");
    // The Messages API does not count what a cache has read or written among its input.
    let read = read_count(&usage["cache_read_input_tokens"]);
    let beside = read.unwrap_or_default().saturating_add(cache_written);
    Some(Usage {
        input_tokens: input.unwrap_or_default().saturating_add(beside),
        cached_input_tokens: cached.or(read).unwrap_or_default(),
        output_tokens: output.unwrap_or_default(),
        reasoning_output_tokens: reasoning.unwrap_or_default(),
    })
}

/// Reads a whole number. Some servers write it with a decimal point.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
fn read_count(value: &Value) -> Option<u64> {
    let whole = |count: &f64| count.fract() == 0.0 && (0.0..=MAX_WHOLE_FLOAT).contains(count);
    value.as_u64().or_else(|| value.as_f64().filter(whole).map(|count| count as u64))
}
