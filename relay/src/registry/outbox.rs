//! Ends that are to be delivered: `outbox/NAME.N.json`, written by the daemon, and who was shown one:
//! `outbox/NAME.N.shown`, created once by whoever shows it.
//!
//! ```text
//! the job ends ─► NAME.N.json {way: pending …} ─► each way: taken │ given up
//!                      └► relay notices │ hook │ wait: NAME.N.shown, exclusively, then its text is printed
//! ```

use std::collections::BTreeMap;
use std::io;

use common::ids::JobId;
use common::origin::Session;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::atomic::Durability;

/// Version of an entry's JSON.
pub const SCHEMA: u32 = 1;

/// Longest file, in bytes: an entry has four ways, each with one line of text.
const MOST: u64 = 256 << 10;

/// An end on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Which job.
    pub job: JobId,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The session that launched it.
    pub session: Option<Session>,
    /// Each way out, by name: `codex`, `desktop`, `command`, `webhook`.
    pub ways: BTreeMap<String, Way>,
}

/// One way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Whether it was taken.
    pub state: WayState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub next_at: Option<Timestamp>,
    /// Why it was not taken the last time, in one line.
    pub last_error: Option<String>,
}

/// Whether a way was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayState {
    /// Not yet.
    Pending,
    /// It was.
    Taken,
    /// It never will be.
    GivenUp,
}

/// Who was shown an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// When.
    pub at: Timestamp,
    /// By what: `notices`, `hook`, `wait`, `run`, `mcp`.
    pub by: String,
    /// In which session.
    pub session: Option<Session>,
}

/// Writes an entry: the daemon alone does. One that has ways to go is durable; any other is made again from its record.
///
/// # Errors
/// The first failing call.
pub fn write(registry: &Registry, entry: &Entry) -> io::Result<()> {
    let durability = if entry.ways.is_empty() { Durability::Cached } else { Durability::Synced };
    registry.outbox_entry(&entry.job).replace(&serde_json::to_vec(entry)?, durability)
}

/// The entry of a job; `None` where there is none.
///
/// # Errors
/// When it can't be read, or is none.
pub fn read(registry: &Registry, job: &JobId) -> io::Result<Option<Entry>> {
    match registry.outbox_entry(job).read(MOST) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The jobs whose end nobody was shown yet.
///
/// # Errors
/// When the folder can't be read; one that is not there is empty.
pub fn unshown(registry: &Registry) -> io::Result<Vec<JobId>> {
    let mut seen: BTreeMap<JobId, bool> = BTreeMap::new();
    for name in registry.outbox().names()? {
        if let Some(job) = name.strip_suffix(".shown").and_then(|stem| stem.parse().ok()) {
            seen.insert(job, true);
        } else if let Some(job) = name.strip_suffix(".json").and_then(|stem| stem.parse().ok()) {
            seen.entry(job).or_insert(false);
        }
    }
    Ok(seen.into_iter().filter(|(_, shown)| !shown).map(|(job, _)| job).collect())
}

/// Takes it upon the caller to show this end; returns whether it is the first to do so. Whoever is not stays silent.
///
/// # Errors
/// When the folder can't be written.
pub fn claim(registry: &Registry, job: &JobId, shown: &Shown) -> io::Result<bool> {
    match registry.outbox_shown(job).create(&serde_json::to_vec(shown)?, Durability::Cached) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Takes a claim of the caller's back: nobody read what was shown.
///
/// # Errors
/// When it can't be removed; one that is not there is fine.
pub fn unclaim(registry: &Registry, job: &JobId) -> io::Result<()> {
    registry.outbox_shown(job).remove()
}

/// Who was shown the end of a job; `None` while nobody was, or where that can't be read.
pub fn shown(registry: &Registry, job: &JobId) -> Option<Shown> {
    registry.outbox_shown(job).read(MOST).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// Forgets a job unless one of its ways is still to go: the daemon forgets it behind that one.
///
/// # Errors
/// When a file can't be removed.
pub fn remove_done(registry: &Registry, job: &JobId) -> io::Result<()> {
    if is_pending(registry, job) { Ok(()) } else { remove(registry, job) }
}

/// The same for a job whose end was shown: any other one is still to be told.
///
/// # Errors
/// When a file can't be removed.
pub fn remove_told(registry: &Registry, job: &JobId) -> io::Result<()> {
    if registry.outbox_shown(job).exists() { remove_done(registry, job) } else { Ok(()) }
}

fn is_pending(registry: &Registry, job: &JobId) -> bool {
    let pending = |entry: Entry| entry.ways.values().any(|way| way.state == WayState::Pending);
    read(registry, job).is_ok_and(|entry| entry.is_some_and(pending))
}

/// Forgets a job.
///
/// # Errors
/// When a file can't be removed; one that is not there is fine.
pub fn remove(registry: &Registry, job: &JobId) -> io::Result<()> {
    registry.outbox_entry(job).remove()?;
    registry.outbox_shown(job).remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_shown_by_the_first_who_claims_it() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of(dir.path());
        assert_eq!(unshown(&registry).unwrap(), []);
        registry.ensure().unwrap();
        let jobs: [JobId; 2] = ["a#1".parse().unwrap(), "a#2".parse().unwrap()];
        for job in &jobs {
            let entry = Entry {
                schema: SCHEMA,
                job: job.clone(),
                ended_at: Timestamp::UNIX_EPOCH,
                session: None,
                ways: BTreeMap::new(),
            };
            write(&registry, &entry).unwrap();
            assert_eq!(read(&registry, job).unwrap(), Some(entry));
        }
        assert_eq!(unshown(&registry).unwrap(), jobs);
        let by = |by: &str| Shown { at: Timestamp::UNIX_EPOCH, by: by.to_owned(), session: None };
        assert!(claim(&registry, &jobs[0], &by("wait")).unwrap());
        assert!(!claim(&registry, &jobs[0], &by("hook")).unwrap());
        assert_eq!(shown(&registry, &jobs[0]), Some(by("wait")));
        assert_eq!(unshown(&registry).unwrap(), [jobs[1].clone()]);
        remove(&registry, &jobs[0]).unwrap();
        remove(&registry, &jobs[0]).unwrap();
        assert_eq!(read(&registry, &jobs[0]).unwrap(), None);
    }
}
