//! What a start finds, and how it is made whole: torn tails are cut, damage is set aside, records are folded again.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;

use common::event_line::Source;
use common::ids::JobId;
use common::job::JobSpec;
use common::record::{JobRecord, SCHEMA};
use jiff::Timestamp;

use super::ids::EventIds;
use super::job::OpenJob;
use crate::registry::atomic::{self, Durability};
use crate::registry::{Registry, event_log, layout, read};

/// What the registry holds.
pub(super) struct Found {
    /// Jobs that have not ended.
    pub(super) active: Vec<JobRecord>,
    /// Ended jobs that are not in the archive, with their ends.
    pub(super) ended: Vec<(Timestamp, JobId)>,
}

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

/// Looks at every job and repairs those that have not ended.
///
/// # Errors
/// When the registry can't be read. A single job that can't be repaired is reported and left alone.
pub(super) fn recover(registry: &Registry, ids: &mut EventIds) -> io::Result<Found> {
    let mut jobs: BTreeSet<JobId> = read::jobs(registry)?.into_iter().collect();
    for entry in fs::read_dir(registry.dir())? {
        jobs.extend(entry?.file_name().to_str().and_then(layout::job_of_events));
    }
    let mut found = Found { active: Vec::new(), ended: Vec::new() };
    for job in jobs {
        let ended = read::load(registry, &job).ok().and_then(|stored| stored.record.finished_at);
        if let Some(finished_at) = ended {
            found.ended.push((finished_at, job));
            continue;
        }
        match settle(registry, &job, ids) {
            Ok(record) => match record.finished_at {
                Some(finished_at) => found.ended.push((finished_at, job)),
                None => found.active.push(record),
            },
            Err(e) => tracing::error!("{job} can't be recovered: {e}"),
        }
    }
    Ok(found)
}

/// Brings one job's record up to its log.
fn settle(registry: &Registry, job: &JobId, ids: &mut EventIds) -> io::Result<JobRecord> {
    let opened = open(registry, job)?;
    if opened.record.state.is_final() {
        atomic::replace(&registry.record(job), &opened.record.to_bytes()?, Durability::Cached)?;
        return Ok(opened.record);
    }
    let mut open = OpenJob::open(registry, job, ids)?;
    open.commit(registry)?;
    Ok(open.record().clone())
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
    if let Some((number, error @ common::event_line::LineError::Newer(_))) = log.bad.first() {
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

/// Forgets the environment values in a job's spec.
///
/// # Errors
/// When the spec can't be read or replaced.
pub(super) fn drop_env(registry: &Registry, job: &JobId) -> io::Result<()> {
    let path = registry.spec(job);
    let mut spec: JobSpec = serde_json::from_slice(&fs::read(&path)?)?;
    if spec.env.is_empty() {
        return Ok(());
    }
    spec.env.clear();
    atomic::replace(&path, &serde_json::to_vec(&spec)?, Durability::Synced)
}
