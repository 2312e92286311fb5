//! One line of the registry's event log.
//!
//! ```text
//! {"v":1,"id":918,"job":"abe-smoke#1","epoch":1,"seq":12,"at":"…","source":"agent","type":"step_finished",…,"crc":"1c2d3e4f"}
//! ```
//!
//! The checksum is CRC-32C over the bytes in front of `,"crc"`, so it can be checked without parsing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{Event, EventBody};
use crate::ids::JobId;

/// Version of the line format.
pub const VERSION: u32 = 1;
/// Longest line that is read, in bytes, without its line break: the largest event has [`crate::event::MAX_LIST`]
/// texts of [`crate::event::MAX_TEXT`] bytes, each byte of which JSON may write as six.
pub const MAX_LINE: usize = 2 * 1024 * 1024;

/// `,"crc":"xxxxxxxx"}`
const CRC_FIELD: usize = 18;

/// Who saw the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The agent. Its events are dense in `seq` per job and epoch, from 1.
    Agent,
    /// The relay itself. Its events have epoch 0 and a dense `seq` of their own.
    Relay,
}

/// An event with its place in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLine {
    /// Grows over all jobs of the registry: the cursor of `--since`.
    pub id: u64,
    /// The job.
    pub job: JobId,
    /// The agent's run of the job; 0 for the relay's own events.
    pub epoch: u32,
    /// Place within job and epoch, from 1.
    pub seq: u64,
    /// Who saw it.
    pub source: Source,
    /// The event; `None` where its type is newer than this program.
    pub event: Option<Event>,
}

/// Why a line can't be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has no checksum at its end: torn, or foreign.
    #[error("the line has no checksum")]
    NoChecksum,
    /// Its bytes are not those that were written.
    #[error("the line's checksum does not match its bytes")]
    Checksum,
    /// It was written by a newer program.
    #[error("the line has format {0}, newer than {VERSION}")]
    Newer(u64),
    /// Checksum right, content wrong: written by a faulty program.
    #[error("the line is not an event: {0}")]
    Malformed(String),
}

/// The fields in front of the event's own.
#[derive(Serialize, Deserialize)]
struct Head {
    v: u64,
    id: u64,
    job: JobId,
    epoch: u32,
    seq: u64,
    at: Timestamp,
    source: Source,
}

impl EventLine {
    /// The line's bytes, with its line break.
    ///
    /// # Errors
    /// When the event's type is unknown to this program: a line is never rewritten with less than it had.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LineError> {
        let malformed = |e: serde_json::Error| LineError::Malformed(e.to_string());
        let event = self.event.as_ref().ok_or_else(|| LineError::Malformed("unknown type".to_owned()))?;
        let head = Head {
            v: u64::from(VERSION),
            id: self.id,
            job: self.job.clone(),
            epoch: self.epoch,
            seq: self.seq,
            at: event.at,
            source: self.source,
        };
        let mut line = serde_json::to_vec(&head).map_err(malformed)?;
        let Value::Object(tagged) = serde_json::to_value(&event.body).map_err(malformed)? else {
            return Err(LineError::Malformed("an event without fields".to_owned()));
        };
        line.pop();
        for (kind, fields) in tagged {
            line.extend_from_slice(b",\"type\":");
            serde_json::to_writer(&mut line, &kind).map_err(malformed)?;
            let fields = serde_json::to_vec(&fields).map_err(malformed)?;
            if fields.len() > 2 {
                line.push(b',');
                line.extend_from_slice(&fields[1..fields.len() - 1]);
            }
        }
        let crc = crc32c::crc32c(&line);
        line.extend_from_slice(format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes());
        Ok(line)
    }

    /// Reads one line, with or without its line break.
    ///
    /// # Errors
    /// [`LineError`] says whether the line was damaged, is newer, or is no event at all.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let body = check(line)?;
        let mut text = Vec::with_capacity(body.len() + 1);
        text.extend_from_slice(body);
        text.push(b'}');
        let malformed = |e: serde_json::Error| LineError::Malformed(e.to_string());
        let Value::Object(mut fields) = serde_json::from_slice(&text).map_err(malformed)? else {
            return Err(LineError::Malformed("not an object".to_owned()));
        };
        match fields.get("v").and_then(Value::as_u64) {
            Some(v) if v == u64::from(VERSION) => {}
            Some(v) => return Err(LineError::Newer(v)),
            None => return Err(LineError::Malformed("no version".to_owned())),
        }
        let mut head = Map::new();
        for key in ["v", "id", "job", "epoch", "seq", "at", "source"] {
            if let Some(value) = fields.swap_remove(key) {
                head.insert(key.to_owned(), value);
            }
        }
        let head: Head = serde_json::from_value(Value::Object(head)).map_err(malformed)?;
        let Some(Value::String(kind)) = fields.swap_remove("type") else {
            return Err(LineError::Malformed("no type".to_owned()));
        };
        let mut tagged = Map::new();
        tagged.insert(kind, Value::Object(fields));
        // A type that this program does not know is no error: consumers ignore those.
        let event = serde_json::from_value::<EventBody>(Value::Object(tagged))
            .ok()
            .map(|body| Event { at: head.at, body });
        Ok(Self { id: head.id, job: head.job, epoch: head.epoch, seq: head.seq, source: head.source, event })
    }
}

/// The bytes under the checksum, if it matches.
pub(crate) fn check(line: &[u8]) -> Result<&[u8], LineError> {
    let at = line.len().checked_sub(CRC_FIELD).ok_or(LineError::NoChecksum)?;
    let (body, field) = line.split_at(at);
    let hex = field
        .strip_prefix(b",\"crc\":\"")
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .filter(|hex| hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        .ok_or(LineError::NoChecksum)?;
    let written = u32::from_str_radix(hex, 16).map_err(|_| LineError::NoChecksum)?;
    if written == crc32c::crc32c(body) { Ok(body) } else { Err(LineError::Checksum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{StepOutcome, Usage};

    fn line(body: EventBody) -> EventLine {
        EventLine {
            id: 918,
            job: "abe-smoke#1".parse().unwrap(),
            epoch: 1,
            seq: 12,
            source: Source::Agent,
            event: Some(Event { at: "2026-01-02T03:04:05.678Z".parse().unwrap(), body }),
        }
    }

    fn finished_step() -> EventLine {
        let body = EventBody::StepFinished {
            n: 3,
            outcome: StepOutcome::Failed,
            exit_code: Some(1),
            elapsed_ms: 1500,
            resources: None,
        };
        line(body)
    }

    #[test]
    fn a_line_has_the_documented_form() {
        let text = String::from_utf8(finished_step().to_bytes().unwrap()).unwrap();
        insta::assert_snapshot!(text.trim_end(), @r#"{"v":1,"id":918,"job":"abe-smoke#1","epoch":1,"seq":12,"at":"2026-01-02T03:04:05.678Z","source":"agent","type":"step_finished","n":3,"outcome":"failed","exit_code":1,"elapsed_ms":1500,"resources":null,"crc":"e1d50217"}"#);
    }

    #[test]
    fn every_line_reads_back() {
        for body in [EventBody::Usage(Usage::default()), EventBody::Message { text: "a\"b\n}".to_owned() }] {
            let line = line(body);
            similar_asserts::assert_eq!(EventLine::parse(&line.to_bytes().unwrap()).unwrap(), line);
        }
    }

    #[test]
    fn every_single_bit_flip_and_every_truncation_is_seen() {
        let good = finished_step().to_bytes().unwrap();
        let good = &good[..good.len() - 1];
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(EventLine::parse(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(EventLine::parse(&good[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn an_unknown_type_is_kept_apart_and_a_newer_format_is_refused() {
        let seal = |body: &str| format!("{body},\"crc\":\"{:08x}\"}}", crc32c::crc32c(body.as_bytes()));
        let unknown = r#"{"v":1,"id":1,"job":"a#1","epoch":1,"seq":1,"at":"2026-01-02T03:04:05Z","source":"agent","type":"levitated","height":3"#;
        assert_eq!(EventLine::parse(seal(unknown).as_bytes()).unwrap().event, None);
        let newer = unknown.replace("\"v\":1", "\"v\":2");
        assert_eq!(EventLine::parse(seal(&newer).as_bytes()), Err(LineError::Newer(2)));
    }
}
