//! Meter of one answer of the model: reads token counts and errors from the body as it passes (pure).
//!
//! ```text
//!  stream of events ─► event_stream ─► json_fields ─┬─ response.completed, .incomplete ─► usage
//!                                                   ├─ message_start … message_stop ─► anthropic_stream_usage ─► usage
//!  JSON object ──────────────────────► json_fields ─┘─ response.failed, error ─► error, usage
//! ```

use common::event::Usage;
use serde_json::Value;

use super::anthropic_stream_usage::AnthropicStreamUsage;
use super::event_stream::{EventStream, Piece};
use super::json_fields::{Field, JsonFields};

/// Largest count that is read from a number with a decimal point: larger ones are not exact.
const MAX_WHOLE_FLOAT: f64 = 9_007_199_254_740_992.0;

/// Result of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// Tokens of the answer, if it has them.
    pub(super) usage: Option<Usage>,
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

/// Format of an answer.
#[derive(Debug)]
enum Format {
    /// Before the first byte that tells the format. True if the content type names a stream of events.
    Unknown(bool),
    Events(EventStream),
    Json,
    /// A format without token counts.
    Other,
}

/// Meter of one answer.
#[derive(Debug)]
pub(super) struct Meter {
    format: Format,
    fields: JsonFields,
    message: AnthropicStreamUsage,
    reading: Option<Reading>,
}

impl Meter {
    /// Creates a meter for an answer with this content type. The first byte decides where the content type is wrong or
    /// missing, because Codex reads such answers, too.
    pub(super) fn new(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let format = Format::Unknown(essence.eq_ignore_ascii_case("text/event-stream"));
        Self {
            format,
            fields: JsonFields::default(),
            message: AnthropicStreamUsage::default(),
            reading: None,
        }
    }

    /// Finds the format from the first byte that is neither white space nor part of a byte order mark.
    fn find_format(&mut self, bytes: &[u8]) {
        let Format::Unknown(is_stream) = self.format else { return };
        let is_filler = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
        let Some(first) = bytes.iter().find(|byte| !is_filler(**byte)) else { return };
        self.format = match first {
            b'{' => Format::Json,
            // Lines begin with data, event, id, retry, or a colon for a comment.
            b'd' | b'e' | b'i' | b'r' | b':' => Format::Events(EventStream::new()),
            _ if is_stream => Format::Events(EventStream::new()),
            _ => Format::Other,
        };
    }

    /// Takes the next bytes of the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.find_format(bytes);
        let Self { format, fields, message, reading } = self;
        match format {
            Format::Events(stream) => stream.feed(bytes, &mut |piece| match piece {
                Piece::Data(data) => fields.feed(data),
                Piece::End => {
                    let ended = read_event(&std::mem::take(fields), message);
                    // A second end would belong to no request.
                    *reading = reading.take().or(ended);
                }
            }),
            Format::Json => fields.feed(bytes),
            Format::Unknown(_) | Format::Other => {}
        }
    }

    /// Returns the result once the answer has one. Called after each piece of the body.
    pub(super) fn take_reading(&mut self) -> Option<Reading> {
        self.reading.take()
    }

    /// Returns the result of a body that has ended, if it was not taken before.
    pub(super) fn finish(&mut self) -> Option<Reading> {
        if matches!(self.format, Format::Json) {
            self.format = Format::Other;
            let usage = self.fields.value(Field::Usage).as_ref().and_then(read_usage);
            let model = read_model(&self.fields);
            self.reading = usage.map(|usage| Reading { usage: Some(usage), model, error: None });
        }
        self.reading.take()
    }
}

/// Returns the result if the event is the last one of an answer.
fn read_event(fields: &JsonFields, message: &mut AnthropicStreamUsage) -> Option<Reading> {
    let kind = fields.value(Field::Type)?;
    let usage = fields.value(Field::Usage).as_ref().and_then(read_usage);
    let model = read_model(fields);
    let error = fields.value(Field::Error).filter(|error| !error.is_null());
    match kind.as_str()? {
        "response.completed" | "response.incomplete" => Some(Reading { usage, model, error: None }),
        "response.failed" => {
            let error = error.as_ref().map(ErrorFields::from_json).unwrap_or_default();
            Some(Reading { usage, model, error: Some(error) })
        }
        "error" => {
            let text =
                |field| fields.value(field).as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
            let own = || ErrorFields {
                code: text(Field::Code),
                message: text(Field::Message),
                ..ErrorFields::default()
            };
            let error = error.as_ref().map_or_else(own, ErrorFields::from_json);
            Some(Reading { usage, model, error: Some(error) })
        }
        kind => {
            let (usage, model) = message.take_event(kind, usage, model)?;
            Some(Reading { usage, model, error: None })
        }
    }
}

fn read_model(fields: &JsonFields) -> Option<String> {
    let model = fields.value(Field::Model)?;
    model.as_str().map(str::to_owned)
}

/// Reads token counts, in the names of the Responses API, of older APIs or of the Messages API; `None` without any. A
/// detail that is missing is 0.
fn read_usage(usage: &Value) -> Option<Usage> {
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
    let written = read_count(&usage["cache_creation_input_tokens"]);
    let beside = read.unwrap_or_default().saturating_add(written.unwrap_or_default());
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

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
