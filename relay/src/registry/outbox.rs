//! Completion notices to deliver: `outbox/NAME.N.json`, written by the daemon, and the claim on a notice:
//! `outbox/NAME.N.shown`, created once by the reader that shows it.
//!
//! ```text
//! the job ends ─► NAME.N.json {channel: pending …} ─► each channel: accepted │ given up
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

/// Version of the JSON of an entry.
pub const SCHEMA_VERSION: u32 = 1;

/// Maximum size of a file of the outbox, in bytes: an entry has four channels, each with one line of text.
const MAX_FILE_SIZE: u64 = 256 << 10;

/// A completion notice to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// Version of the entry's JSON: [`SCHEMA_VERSION`].
    pub schema: u32,
    /// Job that has ended.
    pub job: JobId,
    /// End time of the job.
    pub ended_at: Timestamp,
    /// Session that launched the job.
    pub session: Option<Session>,
    /// Deliveries by channel: `codex`, `desktop`, `command`, `webhook`.
    #[serde(rename = "ways")]
    pub channels: BTreeMap<String, ChannelDelivery>,
}

/// Delivery through one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelDelivery {
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
    /// The notice is not delivered yet.
    Pending,
    /// The receiver has accepted the notice.
    #[serde(rename = "taken")]
    Accepted,
    /// The delivery was given up for good.
    GivenUp,
}

/// Claim on a completion notice, which only its owner shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeClaim {
    /// Time of the claim.
    pub at: Timestamp,
    /// Claimant: `notices`, `hook`, `wait`, `run`, `mcp`; `queue` for a message to a session.
    pub by: String,
    /// Session of the claimant.
    pub session: Option<Session>,
}

/// Writes an entry. Only the daemon calls this. An entry with channels is synced; an entry without channels can be
/// rebuilt from its job's record.
pub fn write_entry(registry: &Registry, entry: &OutboxEntry) -> io::Result<()> {
    let durability = if entry.channels.is_empty() { Durability::Cached } else { Durability::Synced };
    registry.outbox_entry(&entry.job).replace(&serde_json::to_vec(entry)?, durability)
}

/// Returns the entry of a job; `None` if there is none.
///
/// # Errors
/// Returns an error if the file can't be read or is not an entry.
pub fn read_entry(registry: &Registry, job: &JobId) -> io::Result<Option<OutboxEntry>> {
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
pub fn unclaimed_jobs(registry: &Registry) -> io::Result<Vec<JobId>> {
    let mut is_claimed_by_job: BTreeMap<JobId, bool> = BTreeMap::new();
    for name in registry.outbox().names()? {
        if let Some(job) = name.strip_suffix(".shown").and_then(|stem| stem.parse().ok()) {
            is_claimed_by_job.insert(job, true);
        } else if let Some(job) = name.strip_suffix(".json").and_then(|stem| stem.parse().ok()) {
            is_claimed_by_job.entry(job).or_insert(false);
        }
    }
    Ok(is_claimed_by_job.into_iter().filter(|(_, is_claimed)| !is_claimed).map(|(job, _)| job).collect())
}

/// Claims the notice of a job for the caller; returns true if it was unclaimed. A caller that gets false must not show
/// the notice.
pub fn claim_notice(registry: &Registry, job: &JobId, claim: &NoticeClaim) -> io::Result<bool> {
    match registry.outbox_claim(job).create(&serde_json::to_vec(claim)?, Durability::Cached) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Releases the caller's claim on a notice that was not shown.
///
/// # Errors
/// Returns an error if the claim can't be removed. An absent claim is not an error.
pub fn release_claim(registry: &Registry, job: &JobId) -> io::Result<()> {
    registry.outbox_claim(job).remove()
}

/// Returns the claim on the notice of a job; `None` if the notice is unclaimed or the claim can't be read.
pub fn read_claim(registry: &Registry, job: &JobId) -> Option<NoticeClaim> {
    registry.outbox_claim(job).read(MAX_FILE_SIZE).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// Removes the entry and the claim of a job, unless a delivery is pending. In that case the daemon removes them later.
pub fn remove_unless_pending(registry: &Registry, job: &JobId) -> io::Result<()> {
    if is_pending(registry, job) { Ok(()) } else { remove_entry(registry, job) }
}

/// Removes the entry and the claim of a job, if the notice is claimed and no delivery is pending.
pub fn remove_if_claimed(registry: &Registry, job: &JobId) -> io::Result<()> {
    if registry.outbox_claim(job).exists() { remove_unless_pending(registry, job) } else { Ok(()) }
}

fn is_pending(registry: &Registry, job: &JobId) -> bool {
    let is_pending =
        |entry: OutboxEntry| entry.channels.values().any(|channel| channel.state == ChannelState::Pending);
    read_entry(registry, job).is_ok_and(|entry| entry.is_some_and(is_pending))
}

/// Removes the entry and the claim of a job.
///
/// # Errors
/// Returns an error if a file can't be removed. An absent file is not an error.
pub fn remove_entry(registry: &Registry, job: &JobId) -> io::Result<()> {
    registry.outbox_entry(job).remove()?;
    registry.outbox_claim(job).remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_claimant_gets_the_claim_on_a_notice() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::for_project(dir.path());
        assert_eq!(unclaimed_jobs(&registry).unwrap(), []);
        registry.ensure().unwrap();
        let jobs: [JobId; 2] = ["a#1".parse().unwrap(), "a#2".parse().unwrap()];
        for job in &jobs {
            let entry = OutboxEntry {
                schema: SCHEMA_VERSION,
                job: job.clone(),
                ended_at: Timestamp::UNIX_EPOCH,
                session: None,
                channels: BTreeMap::new(),
            };
            write_entry(&registry, &entry).unwrap();
            assert_eq!(read_entry(&registry, job).unwrap(), Some(entry));
        }
        assert_eq!(unclaimed_jobs(&registry).unwrap(), jobs);
        let claim_by = |by: &str| NoticeClaim { at: Timestamp::UNIX_EPOCH, by: by.to_owned(), session: None };
        assert!(claim_notice(&registry, &jobs[0], &claim_by("wait")).unwrap());
        assert!(!claim_notice(&registry, &jobs[0], &claim_by("hook")).unwrap());
        assert_eq!(read_claim(&registry, &jobs[0]), Some(claim_by("wait")));
        assert_eq!(unclaimed_jobs(&registry).unwrap(), [jobs[1].clone()]);
        remove_entry(&registry, &jobs[0]).unwrap();
        remove_entry(&registry, &jobs[0]).unwrap();
        assert_eq!(read_entry(&registry, &jobs[0]).unwrap(), None);
    }
}
