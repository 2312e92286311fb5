//! Repairs a job's files: removes a torn tail (an incomplete last line), sets damage aside, rebuilds the record.
//!
//! Every step may be interrupted and repeated. A torn tail is removed in one call. A damaged log is copied, and then
//! replaced in one step by its valid lines and a warning about the rest.

use std::io::{self, BufRead, BufReader};

use common::event::{Event, EventBody};
use common::event_line::{EventLine, Source};
use common::ids::JobId;
use common::record::{JobRecord, SCHEMA_VERSION};
use jiff::Timestamp;

use super::checksums::Checksums;
use super::ids::EventIds;
use super::log::copy_valid_lines;
use crate::files::file_ref::FileRef;
use crate::files::refused::RefusedEntry;
use crate::files::staged::StagedFile;
use crate::registry::event_log::{self, ScanResult};
use crate::registry::{Registry, read};

/// State of a job after the repair of its files.
pub(super) struct RepairedJob {
    /// Record of the job, folded from its log if there is one.
    pub(super) record: JobRecord,
    /// Sequence number of the relay's own newest event.
    pub(super) relay_seq: u64,
    /// Checksums of the agent's newest events.
    pub(super) checksums: Checksums,
    /// Length of the repaired log, which contains only valid lines, in bytes.
    pub(super) log_length: u64,
    /// True if the record on disk differs from `record`.
    pub(super) is_record_stale: bool,
}

/// Reads a job's log and record; removes a torn tail and sets damage aside.
///
/// # Errors
/// `NotFound` for an unknown job; `Unsupported` for a record or a log that a newer relay has written, which are left as
/// they are; otherwise the error of the failing call.
pub(super) fn repair_job(
    registry: &Registry,
    job: &JobId,
    ids: &mut EventIds,
    now: Timestamp,
) -> io::Result<RepairedJob> {
    let record_bytes = registry.record(job).read(read::MAX_RECORD_SIZE).ok();
    let stored: Option<JobRecord> =
        record_bytes.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    if stored.as_ref().is_some_and(|record| record.schema > SCHEMA_VERSION) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "its record was written by a newer relay"));
    }
    let path = registry.events(job);
    let mut fold = LogFold::new(stored);
    let scan = match event_log::scan_log(&path, |_, line| fold.apply_line(&line)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => ScanResult::default(),
        // Without a log only the record is left.
        Err(e) if RefusedEntry::from_error(&e).is_some() => {
            path.set_aside(&e)?;
            ScanResult::default()
        }
        scan => scan?,
    };
    if let Some(version) = scan.newer_version {
        let reason = format!("its log has lines of format {version}, by a newer relay");
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    if scan.torn_bytes > 0 {
        path.open_to_write()?.set_len(scan.valid_bytes)?;
        tracing::warn!("{job}: {} torn bytes were removed from its log", scan.torn_bytes);
    }
    let mut len = scan.valid_bytes;
    if scan.bad_line_count > 0 {
        len = set_damaged_log_aside(registry, job, &scan, &mut fold, (ids, now))?;
    }
    let record = fold.record.ok_or(io::ErrorKind::NotFound)?;
    let is_record_stale = record_bytes.as_deref() != Some(&record.to_bytes()?);
    Ok(RepairedJob {
        record,
        relay_seq: fold.relay_seq,
        checksums: fold.checksums,
        log_length: len,
        is_record_stale,
    })
}

/// State of a job, accumulated from the lines of its log.
struct LogFold {
    record: Option<JobRecord>,
    relay_seq: u64,
    checksums: Checksums,
    has_lines: bool,
    /// Missing agent events, formatted for display.
    missing_events: Vec<String>,
    scratch: Vec<u8>,
}

impl LogFold {
    /// Starts with the record on disk. The log's lines replace it, but for its launch data if the first line is
    /// missing.
    fn new(stored: Option<JobRecord>) -> Self {
        Self {
            record: stored,
            relay_seq: 0,
            checksums: Checksums::default(),
            has_lines: false,
            missing_events: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn apply_line(&mut self, line: &EventLine) {
        if !self.has_lines {
            self.has_lines = true;
            // If the log's first line is missing, the launch data in the record is used.
            let from_first_line = JobRecord::rebuild([line]);
            let from_record = self.record.take().map(|record| {
                JobRecord::from_queued(record.job.clone(), record.created_at, &record.to_queued())
            });
            let is_first = from_first_line.is_some();
            self.record = from_first_line.or(from_record);
            if is_first {
                self.relay_seq = line.seq;
                return;
            }
        }
        let Some(record) = &mut self.record else { return };
        if line.source == Source::Relay {
            self.relay_seq = line.seq;
        } else {
            let last = if line.epoch == record.epoch { record.seq } else { 0 };
            if line.seq > last + 1 && self.missing_events.len() < event_log::MAX_LISTED {
                self.missing_events.push(format!("{} to {} of epoch {}", last + 1, line.seq - 1, line.epoch));
            }
            // The checksum uses the current event format, in which an agent would send the event again.
            self.scratch.clear();
            let sum = line.append_to(&mut self.scratch).unwrap_or_default();
            self.checksums.push(line.epoch, line.seq, sum);
        }
        record.apply_line(line);
    }
}

/// Keeps a copy of a damaged log, and replaces the log with its valid lines and a warning. Returns the new length of
/// the log.
fn set_damaged_log_aside(
    registry: &Registry,
    job: &JobId,
    scan: &ScanResult,
    fold: &mut LogFold,
    (ids, now): (&mut EventIds, Timestamp),
) -> io::Result<u64> {
    let path = registry.events(job);
    let corrupt_copy = copy_damaged_log(&path)?;
    let line_numbers: Vec<String> =
        scan.first_bad_lines.iter().take(5).map(|(number, _)| number.to_string()).collect();
    let lost = match fold.missing_events.as_slice() {
        [] => String::new(),
        missing => format!("; the agent's events {} are lost", missing.join(", ")),
    };
    let message = format!(
        "damaged lines of the event log: {} (line {}), set aside in {}{lost}",
        scan.bad_line_count,
        line_numbers.join(", "),
        corrupt_copy.display()
    );
    tracing::error!("{job}: {message}");
    let warning = EventLine {
        id: ids.next_id()?,
        job: job.clone(),
        epoch: 0,
        seq: fold.relay_seq + 1,
        source: Source::Relay,
        event: Some(Event {
            at: now,
            body: EventBody::Warning {
                message: common::text_format::truncate(&message, common::event::MAX_TEXT),
            },
        }),
    };
    // No event may follow the end of a job, so the log of an ended job gets no warning.
    let warning = fold.record.as_ref().is_some_and(|record| !record.state.is_final()).then_some(warning);
    let mut bytes = Vec::new();
    if let Some(line) = &warning {
        line.append_to(&mut bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        fold.apply_line(line);
    }
    let (copy, copied_bytes) = copy_valid_lines(&path, u64::MAX, &bytes)?;
    copy.replace()?;
    path.dir().sync()?;
    Ok(copied_bytes + bytes.len() as u64)
}

/// Copies a damaged log to the first free name `LOG.corrupt-N`. If the newest such file is a copy of this log, made
/// before a crash, returns that file.
fn copy_damaged_log(log: &FileRef) -> io::Result<FileRef> {
    let corrupt_file = |n: u32| log.sibling(format!("{}.corrupt-{n}", log.name().display()));
    let free_number =
        (1..u32::MAX).find(|n| !corrupt_file(*n).exists()).ok_or(io::ErrorKind::AlreadyExists)?;
    if free_number > 1 && has_same_content(log, &corrupt_file(free_number - 1)).unwrap_or(false) {
        return Ok(corrupt_file(free_number - 1));
    }
    let mut staged = StagedFile::create(&corrupt_file(free_number))?;
    io::copy(&mut log.open()?, staged.file())?;
    staged.sync()?;
    staged.replace()?;
    Ok(corrupt_file(free_number))
}

fn has_same_content(one: &FileRef, other: &FileRef) -> io::Result<bool> {
    if one.size() != other.size() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one.open()?), BufReader::new(other.open()?));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let len = left.len().min(right.len());
        if left[..len] != right[..len] {
            return Ok(false);
        }
        if len == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(len);
        other.consume(len);
    }
}
