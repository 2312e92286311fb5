//! Meter of one answer of the model: reads token counts and errors from the body as it passes (pure).
//!
//! ```text
//!  stream of events ─► event_stream ─► json_fields ─┬─ response.completed, .incomplete ─► usage
//!                                                   ├─ message_start … message_stop ─► anthropic_stream_usage ─► usage
//!  JSON object ──────────────────────► json_fields ─┘─ response.failed, error ─► error, usage
//! ```

use serde_json::Value;

use super::anthropic_stream_usage::AnthropicStreamUsage;
use super::event_stream::{EventStream, Piece};
use super::json_fields::{Field, JsonFields};
use super::reading::{Counts, ErrorFields, Reading};

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
            let counts = self.fields.value(Field::Usage).as_ref().and_then(Counts::from_json);
            let model = read_model(&self.fields);
            self.reading = counts.map(|counts| counts.into_reading(model, None));
        }
        self.reading.take()
    }
}

/// Returns the result if the event is the last one of an answer.
fn read_event(fields: &JsonFields, message: &mut AnthropicStreamUsage) -> Option<Reading> {
    let kind = fields.value(Field::Type)?;
    let counts = fields.value(Field::Usage).as_ref().and_then(Counts::from_json);
    let model = read_model(fields);
    let reading = |model, error| match counts {
        Some(counts) => counts.into_reading(model, error),
        None => Reading { model, error, ..Reading::default() },
    };
    let error = fields.value(Field::Error).filter(|error| !error.is_null());
    match kind.as_str()? {
        "response.completed" | "response.incomplete" => Some(reading(model, None)),
        "response.failed" => {
            let error = error.as_ref().map(ErrorFields::from_json).unwrap_or_default();
            Some(reading(model, Some(error)))
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
            Some(reading(model, Some(error)))
        }
        kind => message.take_event(kind, counts, model),
    }
}

fn read_model(fields: &JsonFields) -> Option<String> {
    let model = fields.value(Field::Model)?;
    model.as_str().map(str::to_owned)
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
