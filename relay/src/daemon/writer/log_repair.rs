//! Repairs one job's files: cuts a torn tail, sets damage aside, and folds the record again.
//!
//! Every step may be interrupted anywhere and repeated: the tail is cut in one call, and a damaged log is replaced in
//! one step by its good lines and a warning about the rest, after a copy of it was made.

use std::io::{self, BufRead, BufReader};

use common::event::{Event, EventBody};
use common::event_line::{EventLine, Source};
use common::ids::JobId;
use common::record::{JobRecord, SCHEMA};
use jiff::Timestamp;

use super::checksums::Checksums;
use super::ids::EventIds;
use super::log::copy_good_lines;
use crate::files::file_ref::FileRef;
use crate::files::refused::Refused;
use crate::files::staged::Staged;
use crate::registry::event_log::{self, ScanResult};
use crate::registry::{Registry, read};

/// State of a job from its files.
pub(super) struct RepairedJob {
    /// Record, folded from the log if there is one.
    pub(super) record: JobRecord,
    /// Sequence number of the relay's own newest event.
    pub(super) own_seq: u64,
    /// Checksums of the agent's newest events.
    pub(super) checksums: Checksums,
    /// Length of the log in bytes, all of them good lines.
    pub(super) len: u64,
    /// True if the record on disk differs.
    pub(super) stale: bool,
}

/// Reads a job's log and record; cuts a torn tail and sets damage aside.
///
/// # Errors
/// `NotFound` for an unknown job; `Unsupported` for a record or a log of a newer program, which are left as they are;
/// otherwise the failing call.
pub(super) fn repair_job(
    registry: &Registry,
    job: &JobId,
    ids: &mut EventIds,
    now: Timestamp,
) -> io::Result<RepairedJob> {
    let on_disk = registry.record(job).read(read::MAX_RECORD_SIZE).ok();
    let stored: Option<JobRecord> = on_disk.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    if stored.as_ref().is_some_and(|record| record.schema > SCHEMA) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "its record was written by a newer relay"));
    }
    let path = registry.events(job);
    let mut fold = Fold::new(stored);
    let found = match event_log::scan(&path, |_, line| fold.apply(&line)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => ScanResult::default(),
        // Only the record is left of the job's events.
        Err(e) if Refused::from_error(&e).is_some() => {
            path.set_aside(&e)?;
            ScanResult::default()
        }
        found => found?,
    };
    if let Some(version) = found.newer {
        let reason = format!("its log has lines of format {version}, by a newer relay");
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    if found.torn_bytes > 0 {
        path.open_to_write()?.set_len(found.good_bytes)?;
        tracing::warn!("{job}: {} torn bytes were removed from its log", found.torn_bytes);
    }
    let mut len = found.good_bytes;
    if found.bad_lines > 0 {
        len = set_aside(registry, job, &found, &mut fold, (ids, now))?;
    }
    let record = fold.record.ok_or(io::ErrorKind::NotFound)?;
    let stale = on_disk.as_deref() != Some(&record.to_bytes()?);
    Ok(RepairedJob { record, own_seq: fold.own_seq, checksums: fold.checksums, len, stale })
}

/// State accumulated from the lines of a log.
struct Fold {
    record: Option<JobRecord>,
    own_seq: u64,
    checksums: Checksums,
    begun: bool,
    /// Missing agent events, formatted for display.
    missing: Vec<String>,
    scratch: Vec<u8>,
}

impl Fold {
    /// Starts with the record on disk, which is valid only as long as there are no lines.
    fn new(stored: Option<JobRecord>) -> Self {
        Self {
            record: stored,
            own_seq: 0,
            checksums: Checksums::default(),
            begun: false,
            missing: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn apply(&mut self, line: &EventLine) {
        if !self.begun {
            self.begun = true;
            // Without the log's first line, the launch data in the record must do.
            let launched = JobRecord::rebuild([line]);
            let again = self
                .record
                .take()
                .map(|record| JobRecord::queued(record.job.clone(), record.created_at, &record.to_queued()));
            let is_first = launched.is_some();
            self.record = launched.or(again);
            if is_first {
                self.own_seq = line.seq;
                return;
            }
        }
        let Some(record) = &mut self.record else { return };
        if line.source == Source::Relay {
            self.own_seq = line.seq;
        } else {
            let last = if line.epoch == record.epoch { record.seq } else { 0 };
            if line.seq > last + 1 && self.missing.len() < event_log::MAX_LISTED {
                self.missing.push(format!("{} to {} of epoch {}", last + 1, line.seq - 1, line.epoch));
            }
            // Summed in today's event format, in which an agent would send it again.
            self.scratch.clear();
            let sum = line.append_to(&mut self.scratch).unwrap_or_default();
            self.checksums.push(line.epoch, line.seq, sum);
        }
        record.apply_line(line);
    }
}

/// Keeps a damaged log under another name and replaces it with its good lines, followed by a warning. Returns the new
/// length of the log.
fn set_aside(
    registry: &Registry,
    job: &JobId,
    found: &ScanResult,
    fold: &mut Fold,
    (ids, now): (&mut EventIds, Timestamp),
) -> io::Result<u64> {
    let path = registry.events(job);
    let aside = keep_copy(&path)?;
    let lines: Vec<String> = found.bad.iter().take(5).map(|(number, _)| number.to_string()).collect();
    let lost = match fold.missing.as_slice() {
        [] => String::new(),
        missing => format!("; the agent's events {} are lost", missing.join(", ")),
    };
    let message = format!(
        "damaged lines of the event log: {} (line {}), set aside in {}{lost}",
        found.bad_lines,
        lines.join(", "),
        aside.display()
    );
    tracing::error!("{job}: {message}");
    let warning = EventLine {
        id: ids.next()?,
        job: job.clone(),
        epoch: 0,
        seq: fold.own_seq + 1,
        source: Source::Relay,
        event: Some(Event {
            at: now,
            body: EventBody::Warning { message: common::text::truncate(&message, common::event::MAX_TEXT) },
        }),
    };
    // Nothing follows the end of a job.
    let warning = fold.record.as_ref().is_some_and(|record| !record.state.is_final()).then_some(warning);
    let mut bytes = Vec::new();
    if let Some(line) = &warning {
        line.append_to(&mut bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        fold.apply(line);
    }
    let (copy, copied) = copy_good_lines(&path, u64::MAX, &bytes)?;
    copy.replace()?;
    path.dir().sync()?;
    Ok(copied + bytes.len() as u64)
}

/// Copies a damaged log to the first free `.corrupt-N`, unless the last one is already that copy, after a crash in
/// between.
fn keep_copy(log: &FileRef) -> io::Result<FileRef> {
    let copy = |n: u32| log.sibling(format!("{}.corrupt-{n}", log.name().display()));
    let free = (1..u32::MAX).find(|n| !copy(*n).exists()).ok_or(io::ErrorKind::AlreadyExists)?;
    if free > 1 && is_same(log, &copy(free - 1)).unwrap_or(false) {
        return Ok(copy(free - 1));
    }
    let mut staged = Staged::begin(&copy(free))?;
    io::copy(&mut log.open()?, staged.file())?;
    staged.sync()?;
    staged.replace()?;
    Ok(copy(free))
}

fn is_same(one: &FileRef, other: &FileRef) -> io::Result<bool> {
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
