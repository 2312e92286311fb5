//! Meter of one answer of the model: reads token counts and errors from the body as it passes (pure).
//!
//! ```text
//!  text/event-stream ─► event_stream ─► json_fields ─┬─ response.completed, .incomplete ─► usage
//!  application/json ───────────────────► json_fields ─┘─ response.failed, error ─► error, usage
//! ```

use common::event::Usage;
use serde_json::Value;

use super::event_stream::{EventStream, Piece};
use super::json_fields::{Field, JsonFields};

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
    reading: Option<Reading>,
}

impl Meter {
    /// Creates a meter for an answer with this content type.
    pub(super) fn new(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let format = match essence.to_ascii_lowercase().as_str() {
            "text/event-stream" => Format::Events(EventStream::new()),
            "application/json" => Format::Json,
            _ => Format::Other,
        };
        Self { format, fields: JsonFields::default(), reading: None }
    }

    /// Takes the next bytes of the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let Self { format, fields, reading } = self;
        match format {
            Format::Events(stream) => stream.feed(bytes, &mut |piece| match piece {
                Piece::Data(data) => fields.feed(data),
                Piece::End => {
                    let ended = read_event(&std::mem::take(fields));
                    // A second end would belong to no request.
                    *reading = reading.take().or(ended);
                }
            }),
            Format::Json => fields.feed(bytes),
            Format::Other => {}
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
fn read_event(fields: &JsonFields) -> Option<Reading> {
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
        _ => None,
    }
}

fn read_model(fields: &JsonFields) -> Option<String> {
    let model = fields.value(Field::Model)?;
    model.as_str().map(str::to_owned)
}

/// Reads token counts. A count that is missing or not a number is 0.
fn read_usage(usage: &Value) -> Option<Usage> {
    let usage = usage.is_object().then_some(usage)?;
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    Some(Usage {
        input_tokens: count(&usage["input_tokens"]),
        cached_input_tokens: count(&usage["input_tokens_details"]["cached_tokens"]),
        output_tokens: count(&usage["output_tokens"]),
        reasoning_output_tokens: count(&usage["output_tokens_details"]["reasoning_tokens"]),
    })
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
