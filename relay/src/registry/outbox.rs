//! Completion notices to deliver: `outbox/NAME.N.json`, written by the daemon, and the claim on a notice:
//! `outbox/NAME.N.shown`, created once by the reader that shows it.
//!
//! ```text
//! the job ends ─► NAME.N.json {channel: pending …} ─► each channel: taken │ given up
//!                      └► relay notices │ hook │ wait: NAME.N.shown, exclusively, then the text is printed
//! ```

use std::collections::BTreeMap;
use std::io;

use common::ids::JobId;
use common::origin::Session;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Registry;
use crate::files::atomic::Durability;

/// Version of an entry's JSON.
pub const SCHEMA: u32 = 1;

/// Maximum size of a file, in bytes: an entry has four channels, each with one line of text.
const MAX_FILE_SIZE: u64 = 256 << 10;

/// A completion notice to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Job that ended.
    pub job: JobId,
    /// End time of the job.
    pub ended_at: Timestamp,
    /// Session that launched the job.
    pub session: Option<Session>,
    /// Deliveries by channel: `codex`, `desktop`, `command`, `webhook`.
    #[serde(rename = "ways")]
    pub channels: BTreeMap<String, Channel>,
}

/// Delivery through one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// State of the delivery.
    pub state: ChannelState,
    /// Number of attempts.
    pub attempts: u32,
    /// Time of the next attempt.
    pub next_at: Option<Timestamp>,
    /// Reason of the last failure, in one line.
    pub last_error: Option<String>,
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// Not delivered yet.
    Pending,
    /// Delivered.
    Taken,
    /// Given up for good.
    GivenUp,
}

/// Claim on a completion notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Time of the claim.
    pub at: Timestamp,
    /// Claimant: `notices`, `hook`, `wait`, `run`, `mcp`.
    pub by: String,
    /// Session of the claimant.
    pub session: Option<Session>,
}

/// Writes an entry; only the daemon does. An entry with pending channels is durable; any other can be rebuilt from its
/// record.
pub fn write(registry: &Registry, entry: &Entry) -> io::Result<()> {
    let durability = if entry.channels.is_empty() { Durability::Cached } else { Durability::Synced };
    registry.outbox_entry(&entry.job).replace(&serde_json::to_vec(entry)?, durability)
}

/// Returns the entry of a job; `None` if there is none.
///
/// # Errors
/// Returns an error if the file can't be read or is not an entry.
pub fn read(registry: &Registry, job: &JobId) -> io::Result<Option<Entry>> {
    match registry.outbox_entry(job).read(MAX_FILE_SIZE) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Returns the jobs whose completion notice is unclaimed.
///
/// # Errors
/// Returns an error if the folder can't be read. An absent folder is empty.
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

/// Claims this notice for the caller; returns true if the caller is the first. Any other caller must not show it.
pub fn claim(registry: &Registry, job: &JobId, shown: &Shown) -> io::Result<bool> {
    match registry.outbox_shown(job).create(&serde_json::to_vec(shown)?, Durability::Cached) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Releases a claim of the caller: the notice was not read.
///
/// # Errors
/// Returns an error if the claim can't be removed. An absent claim is not an error.
pub fn unclaim(registry: &Registry, job: &JobId) -> io::Result<()> {
    registry.outbox_shown(job).remove()
}

/// Returns the claim on the notice of a job; `None` if it is unclaimed or the claim can't be read.
pub fn shown(registry: &Registry, job: &JobId) -> Option<Shown> {
    registry.outbox_shown(job).read(MAX_FILE_SIZE).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// Removes the entry of a job unless a delivery is still pending; the daemon removes it after that one.
pub fn remove_done(registry: &Registry, job: &JobId) -> io::Result<()> {
    if is_pending(registry, job) { Ok(()) } else { remove(registry, job) }
}

/// Removes the entry of a job as [`remove_done`] does, but only if its notice is claimed.
pub fn remove_told(registry: &Registry, job: &JobId) -> io::Result<()> {
    if registry.outbox_shown(job).exists() { remove_done(registry, job) } else { Ok(()) }
}

fn is_pending(registry: &Registry, job: &JobId) -> bool {
    let pending =
        |entry: Entry| entry.channels.values().any(|channel| channel.state == ChannelState::Pending);
    read(registry, job).is_ok_and(|entry| entry.is_some_and(pending))
}

/// Removes the entry of a job.
///
/// # Errors
/// Returns an error if a file can't be removed. An absent file is not an error.
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
        let registry = Registry::for_project(dir.path());
        assert_eq!(unshown(&registry).unwrap(), []);
        registry.ensure().unwrap();
        let jobs: [JobId; 2] = ["a#1".parse().unwrap(), "a#2".parse().unwrap()];
        for job in &jobs {
            let entry = Entry {
                schema: SCHEMA,
                job: job.clone(),
                ended_at: Timestamp::UNIX_EPOCH,
                session: None,
                channels: BTreeMap::new(),
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
