//! One job's files, made whole: a torn tail is cut, damage is set aside, the record is folded again.

use std::fs::{self, OpenOptions};
use std::io;

use common::event_line::{LineError, Source};
use common::ids::JobId;
use common::record::{JobRecord, SCHEMA};

use crate::registry::atomic::{self, Durability};
use crate::registry::{Registry, event_log};

/// A job as its files tell it.
pub(super) struct Opened {
    /// Folded from the log, where there is one.
    pub(super) record: JobRecord,
    /// The relay's own newest event.
    pub(super) own_seq: u64,
    /// Whether the record on disk differs.
    pub(super) stale: bool,
    /// What was set aside.
    pub(super) damage: Option<String>,
}

/// Reads a job's log and record; cuts a torn tail and sets damage aside.
///
/// # Errors
/// `NotFound` for an unknown job; `Unsupported` for a record of a newer program; otherwise the failing call.
pub(super) fn open(registry: &Registry, job: &JobId) -> io::Result<Opened> {
    let on_disk = fs::read(registry.record(job)).ok();
    let stored: Option<JobRecord> = on_disk.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    if stored.as_ref().is_some_and(|record| record.schema > SCHEMA) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "its record was written by a newer relay"));
    }
    let path = registry.events(job);
    let log = match event_log::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => event_log::Log::default(),
        log => log?,
    };
    if log.torn_bytes > 0 {
        OpenOptions::new().write(true).open(&path)?.set_len(log.good_bytes)?;
        tracing::warn!("{job}: {} torn bytes were cut off its log", log.torn_bytes);
    }
    let damage = if log.bad.is_empty() { None } else { Some(set_aside(registry, job, &log)?) };
    let own_seq =
        log.lines.iter().filter(|line| line.source == Source::Relay).map(|line| line.seq).max().unwrap_or(0);
    let record = JobRecord::rebuild(&log.lines).or(stored).ok_or(io::ErrorKind::NotFound)?;
    let stale = on_disk.as_deref() != Some(&record.to_bytes()?);
    Ok(Opened { record, own_seq, stale, damage })
}

/// Keeps a damaged log under another name and goes on with its good lines.
fn set_aside(registry: &Registry, job: &JobId, log: &event_log::Log) -> io::Result<String> {
    if let Some((number, error @ LineError::Newer(_))) = log.bad.first() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("line {number} of its log: {error}")));
    }
    let path = registry.events(job);
    let aside = (1..u32::MAX)
        .map(|n| path.with_extension(format!("jsonl.corrupt-{n}")))
        .find(|aside| !aside.exists())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    fs::copy(&path, &aside)?;
    let mut good = Vec::new();
    for line in log.lines.iter().filter(|line| line.event.is_some()) {
        good.extend(line.to_bytes().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?);
    }
    atomic::replace(&path, &good, Durability::Synced)?;
    let lines: Vec<String> = log.bad.iter().take(5).map(|(number, _)| number.to_string()).collect();
    let message = format!(
        "{} damaged lines of the event log (line {}…) were set aside in {}",
        log.bad.len(),
        lines.join(", "),
        aside.display()
    );
    tracing::error!("{job}: {message}");
    Ok(message)
}
