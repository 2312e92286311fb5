//! Lines of the registry's event log. Each is an event of a job, as JSON with a checksum.
//!
//! ```text
//! {"v":1,"id":918,"job":"abe-smoke#1","epoch":1,"seq":12,"at":"…","source":"agent","type":"step_finished",…,"crc":"1c2d3e4f"}
//! ```
//!
//! The checksum is CRC-32C over the bytes before `,"crc"`, so it can be checked without parsing. The fields up to
//! `type` are always written in this order, which makes a line fast to read; lines in another order can be read too.
//!
//! * `read`: parsing of bytes into fields.

mod line_head;
mod read;

use std::io::{self, Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::line_head::LineHead;
pub use self::read::checked_id;
use crate::event::{Event, EventBody};
use crate::ids::JobId;
use crate::json;

/// Version of the line format.
pub const VERSION: u32 = 1;
/// Maximum length of a line that is read, in bytes, without its line break. The largest event has
/// [`crate::event::MAX_LIST`] texts of [`crate::event::MAX_TEXT`] bytes, and each byte may take six bytes in JSON.
pub const MAX_LINE: usize = 2 * 1024 * 1024;

/// Length of the checksum field `,"crc":"xxxxxxxx"}`, in bytes.
const CRC_FIELD: usize = 18;
/// First bytes of a line's content, which follows the fields `v`, `id`, `job`, `epoch` and `seq`.
const CONTENT_START: &[u8] = b",\"at\":\"";
/// Capacity that is allocated for a line before it is written, in bytes. Most lines are shorter.
const INITIAL_CAPACITY: usize = 384;

/// Program that recorded an event: the agent or the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Source {
    /// The agent. The `seq` of its events counts from 1 for each job and epoch, without gaps.
    Agent,
    /// The relay itself. Its events have epoch 0. Their `seq` counts from 1 for each job, without gaps.
    Relay,
}

/// A line of an event log: an event with its id, job, epoch and sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLine {
    /// Id of the event. Ids increase across all jobs of the registry. `--since` takes one as a cursor.
    pub id: u64,
    /// Id of the job.
    pub job: JobId,
    /// Run of the job; 0 for the relay's own events.
    pub epoch: u32,
    /// Sequence number of the event within its job and epoch, from 1.
    pub seq: u64,
    /// Program that recorded the event.
    pub source: Source,
    /// The event; `None` if its type is newer than this program.
    pub event: Option<Event>,
}

/// Reason why a line of an event log can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line does not end with a checksum: it was written only in part, or not by relay.
    #[error("the line has no checksum")]
    NoChecksum,
    /// The line was changed after it was written.
    #[error("the line's checksum does not match its bytes")]
    Checksum,
    /// The line was written by a newer program.
    #[error("the line has format {0}, newer than {VERSION}")]
    Newer(u64),
    /// The checksum is valid but the content is not: a faulty program wrote the line.
    #[error("the line is not an event: {0}")]
    Malformed(String),
}

impl EventLine {
    /// Returns the bytes of the line, with its line break.
    ///
    /// # Errors
    /// Fails if this program does not know the event's type: a line is never rewritten with less content than it had.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LineError> {
        let mut line = Vec::with_capacity(INITIAL_CAPACITY);
        self.append_to(&mut line)?;
        Ok(line)
    }

    /// Appends the bytes of the line, with its line break, and returns the checksum of its content (see
    /// [`content_checksum`]).
    ///
    /// # Errors
    /// Same as [`EventLine::to_bytes`]; nothing is appended in that case.
    pub fn append_to(&self, out: &mut Vec<u8>) -> Result<u32, LineError> {
        let event = self.event.as_ref().ok_or_else(|| LineError::Malformed("unknown type".to_owned()))?;
        let start = out.len();
        let content = write_head(out, self, event.at).and_then(|content| {
            write_body(out, &event.body)?;
            Ok(content)
        });
        match content {
            Ok(content) => Ok(append_checksum(out, start, content)),
            Err(error) => {
                out.truncate(start);
                Err(LineError::Malformed(error.to_string()))
            }
        }
    }
}

/// Returns the CRC-32C over the content of a line: from the event's time to the last field before the checksum. Two
/// lines of the same event have the same sum, even if their ids differ.
pub fn content_checksum(line: &[u8]) -> u32 {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = &line[..line.len().saturating_sub(CRC_FIELD)];
    // The first match is the right one, because no value before it can contain a quote.
    let content = line.windows(CONTENT_START.len()).position(|window| window == CONTENT_START).unwrap_or(0);
    crc32c::crc32c(&line[content..])
}

/// Writes the fields that all events have, up to `type`; returns the offset in `out` at which the content begins.
fn write_head(out: &mut Vec<u8>, line: &EventLine, at: Timestamp) -> io::Result<usize> {
    let EventLine { id, job, epoch, seq, source, .. } = line;
    write!(out, "{{\"v\":{VERSION},\"id\":{id},\"job\":\"{job}\",\"epoch\":{epoch},\"seq\":{seq}")?;
    let content = out.len();
    write!(out, ",\"at\":\"{at}\",\"source\":\"{}\",\"type\":", <&str>::from(source))?;
    Ok(content)
}

/// Writes `"type",FIELDS` for an event that serde writes as `{"type":{FIELDS}}`.
fn write_body(out: &mut Vec<u8>, body: &EventBody) -> io::Result<()> {
    let start = out.len();
    json::to_writer(&mut *out, body)?;
    let unexpected_form = || io::Error::new(io::ErrorKind::InvalidData, "an event without fields");
    // The type's name contains no quote, so the second quote ends it.
    let quoted_len =
        out[start + 1..].iter().skip(1).position(|b| *b == b'"').ok_or_else(unexpected_form)? + 2;
    let fields = start + 1 + quoted_len;
    if !out[fields..].starts_with(b":{") || !out.ends_with(b"}}") {
        return Err(unexpected_form());
    }
    out.truncate(out.len() - 2);
    if out.len() == fields + 2 {
        out.truncate(fields);
    } else {
        out.remove(fields);
        out[fields] = b',';
    }
    out.remove(start);
    Ok(())
}

/// Appends the checksum and the line break to the line that begins at `line_start`. Returns the checksum of the line's
/// content, which begins at `content_start`.
fn append_checksum(out: &mut Vec<u8>, line_start: usize, content_start: usize) -> u32 {
    let content_sum = crc32c::crc32c(&out[content_start..]);
    let crc = crc32c::crc32c(&out[line_start..]);
    out.extend_from_slice(b",\"crc\":\"");
    for digit in (0..8).rev() {
        out.push(b"0123456789abcdef"[(crc >> (digit * 4)) as usize & 15]);
    }
    out.extend_from_slice(b"\"}\n");
    content_sum
}

/// Returns the bytes of a line before its checksum, if the checksum matches them.
fn verify_checksum(line: &[u8]) -> Result<&[u8], LineError> {
    let covered_len = line.len().checked_sub(CRC_FIELD).ok_or(LineError::NoChecksum)?;
    let (covered, crc_field) = line.split_at(covered_len);
    let hex = crc_field
        .strip_prefix(b",\"crc\":\"")
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .filter(|hex| hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        .ok_or(LineError::NoChecksum)?;
    let written = u32::from_str_radix(hex, 16).map_err(|_| LineError::NoChecksum)?;
    if written == crc32c::crc32c(covered) { Ok(covered) } else { Err(LineError::Checksum) }
}

#[cfg(test)]
#[path = "event_line_tests.rs"]
mod tests;
