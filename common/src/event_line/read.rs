//! Parsers of lines of the event log: a fast one for fields in relay's order, and a general one for any other order.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{EventLine, LineError, Source, VERSION, verify_checksum};
use crate::event::{Event, EventBody};
use crate::ids::JobId;

impl EventLine {
    /// Parses one line, with or without its line break.
    ///
    /// # Errors
    /// Returns a [`LineError`] that distinguishes a damaged line, a line of a newer program, and a line that is not an
    /// event.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        let fields = verify_checksum(line.strip_suffix(b"\n").unwrap_or(line))?;
        match LineFields::parse(fields) {
            Some(head) if head.v == u64::from(VERSION) => Self::from_head(&head),
            // Only other programs write the fields in another order.
            _ => parse_any_order(fields),
        }
    }

    fn from_head(head: &LineFields<'_>) -> Result<Self, LineError> {
        let malformed = |e: &dyn std::fmt::Display| LineError::Malformed(e.to_string());
        let at: Timestamp = head.at.parse().map_err(|e| malformed(&e))?;
        let job = head.job.parse().map_err(|e| malformed(&e))?;
        // Serde's form of an `EventBody`: {"type":{fields}}.
        let mut text = Vec::with_capacity(head.kind.len() + head.fields.len() + 6);
        for part in [b"{\"", head.kind.as_bytes(), b"\":{", head.fields, b"}}"] {
            text.extend_from_slice(part);
        }
        let body = match serde_json::from_slice::<EventBody>(&text) {
            Ok(body) => Some(body),
            Err(e) if e.is_data() => None,
            Err(e) => return Err(malformed(&e)),
        };
        // An unknown type is not an error: consumers ignore it.
        let event = body.map(|body| Event { at, body });
        Ok(Self { id: head.id, job, epoch: head.epoch, seq: head.seq, source: head.source, event })
    }
}

/// Verifies the checksum of a line and returns the line's id. Does not parse the event.
///
/// # Errors
/// Same as [`EventLine::parse`], but errors in the event's own fields are not detected.
pub fn checked_id(line: &[u8]) -> Result<u64, LineError> {
    let fields = verify_checksum(line.strip_suffix(b"\n").unwrap_or(line))?;
    match LineFields::parse(fields) {
        Some(head) if head.v == u64::from(VERSION) => Ok(head.id),
        _ => parse_any_order(fields).map(|line| line.id),
    }
}

/// Fields of a line, borrowed from its bytes; `v` is the version of the line format, `kind` the event's type.
pub(super) struct LineFields<'a> {
    pub(super) v: u64,
    pub(super) id: u64,
    pub(super) job: &'a str,
    pub(super) epoch: u32,
    pub(super) seq: u64,
    pub(super) at: &'a str,
    pub(super) source: Source,
    pub(super) kind: &'a str,
    /// Fields that only events of this type have, as JSON without braces.
    pub(super) fields: &'a [u8],
}

impl<'a> LineFields<'a> {
    /// Reads fields in the order in which relay writes them; returns `None` for any other order.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = UnreadFields(line);
        let v = rest.read_number("{\"v\":")?;
        let id = rest.read_number(",\"id\":")?;
        let job = rest.read_text(",\"job\":\"")?;
        let epoch = u32::try_from(rest.read_number(",\"epoch\":")?).ok()?;
        let seq = rest.read_number(",\"seq\":")?;
        let at = rest.read_text(",\"at\":\"")?;
        let source = match rest.read_text(",\"source\":\"")? {
            "agent" => Source::Agent,
            "relay" => Source::Relay,
            _ => return None,
        };
        let kind = rest.read_text(",\"type\":\"")?;
        let fields = if rest.0.is_empty() { rest.0 } else { rest.0.strip_prefix(b",")? };
        Some(Self { v, id, job, epoch, seq, at, source, kind, fields })
    }
}

/// The bytes of a line that were not read yet.
struct UnreadFields<'a>(&'a [u8]);

impl<'a> UnreadFields<'a> {
    /// Reads the number after `name`, in JSON's form without sign and fraction.
    fn read_number(&mut self, name: &str) -> Option<u64> {
        let rest = self.0.strip_prefix(name.as_bytes())?;
        let len = rest.iter().position(|b| !b.is_ascii_digit())?;
        let (digits, rest) = rest.split_at(len);
        if digits.len() > 1 && digits.starts_with(b"0") {
            return None;
        }
        self.0 = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Reads the text after `name`, up to its closing quote. Returns `None` for texts with escapes, which
    /// [`parse_any_order`] parses.
    fn read_text(&mut self, name: &str) -> Option<&'a str> {
        let rest = self.0.strip_prefix(name.as_bytes())?;
        let len = rest.iter().position(|b| *b == b'"')?;
        let (text, rest) = rest.split_at(len);
        if text.contains(&b'\\') {
            return None;
        }
        self.0 = &rest[1..];
        std::str::from_utf8(text).ok()
    }
}

/// The fields that events of all types have.
#[derive(Deserialize)]
struct CommonFields {
    id: u64,
    job: JobId,
    epoch: u32,
    seq: u64,
    at: Timestamp,
    source: Source,
}

/// Parses a line whose fields are in any order; `line` ends before the checksum.
pub(super) fn parse_any_order(line: &[u8]) -> Result<EventLine, LineError> {
    let mut text = Vec::with_capacity(line.len() + 1);
    text.extend_from_slice(line);
    text.push(b'}');
    let malformed = |e: serde_json::Error| LineError::Malformed(e.to_string());
    let Value::Object(mut fields) = serde_json::from_slice(&text).map_err(malformed)? else {
        return Err(LineError::Malformed("not an object".to_owned()));
    };
    match fields.swap_remove("v").as_ref().and_then(Value::as_u64) {
        Some(v) if v == u64::from(VERSION) => {}
        Some(v) => return Err(LineError::Newer(v)),
        None => return Err(LineError::Malformed("no version".to_owned())),
    }
    let mut head = Map::new();
    for key in ["id", "job", "epoch", "seq", "at", "source"] {
        if let Some(value) = fields.swap_remove(key) {
            head.insert(key.to_owned(), value);
        }
    }
    let head: CommonFields = serde_json::from_value(Value::Object(head)).map_err(malformed)?;
    let Some(Value::String(kind)) = fields.swap_remove("type") else {
        return Err(LineError::Malformed("no type".to_owned()));
    };
    let mut tagged = Map::new();
    tagged.insert(kind, Value::Object(fields));
    // An unknown type is not an error: consumers ignore it.
    let body = serde_json::from_value::<EventBody>(Value::Object(tagged)).ok();
    let event = body.map(|body| Event { at: head.at, body });
    Ok(EventLine { id: head.id, job: head.job, epoch: head.epoch, seq: head.seq, source: head.source, event })
}
