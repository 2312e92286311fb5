//! Completion notices that no reader has received yet. A reader claims a notice first, so that none is shown twice.
//!
//! ```text
//! outbox ─ unclaimed_notices ─► relevant ones ─ claim_notices ─► records ─► shown, or release_claims on failure
//! ```

use std::io;

use common::record::JobRecord;

use super::outbox::{self, Entry, Shown};
use super::{Registry, read};

/// Notices taken for display.
#[derive(Debug, Default)]
pub struct Unseen {
    /// Records, in the order of the notices.
    pub records: Vec<JobRecord>,
    /// Number of notices left for the next call.
    pub left: usize,
}

/// Returns the unclaimed notices, oldest first.
///
/// # Errors
/// Returns an error if the outbox can't be read. An absent outbox is empty, and an unreadable entry is skipped.
pub fn unclaimed_notices(registry: &Registry) -> io::Result<Vec<Entry>> {
    let entry = |job| outbox::read(registry, &job).ok().flatten();
    let mut ends: Vec<Entry> = outbox::unshown(registry)?.into_iter().filter_map(entry).collect();
    ends.sort_by(|a, b| (a.ended_at, &a.job).cmp(&(b.ended_at, &b.job)));
    Ok(ends)
}

/// Takes the first `most` of `ends`. With `shown`, claims each one and skips those that another reader has claimed.
///
/// # Errors
/// Returns an error if the outbox can't be written. No notice is claimed then.
pub fn claim_notices(
    registry: &Registry,
    ends: &[Entry],
    most: usize,
    shown: Option<&Shown>,
) -> io::Result<Unseen> {
    let mut taken = Unseen { left: ends.len(), ..Unseen::default() };
    for entry in ends {
        if taken.records.len() == most {
            break;
        }
        taken.left -= 1;
        let claimed = shown.map(|shown| outbox::claim(registry, &entry.job, shown)).transpose();
        if !claimed.inspect_err(|_| release_claims(registry, &taken.records))?.unwrap_or(true) {
            continue;
        }
        // A job that was pruned has no record to show: its claim stands.
        taken.records.extend(read::load(registry, &entry.job).map(|stored| stored.record));
    }
    Ok(taken)
}

/// Releases claims on notices that were not read.
pub fn release_claims<'a>(registry: &Registry, records: impl IntoIterator<Item = &'a JobRecord>) {
    for record in records {
        // A claim that can't be released is lost to this channel only: `relay status` still shows the outcome.
        let _ = outbox::unclaim(registry, &record.job);
    }
}

#[cfg(test)]
#[path = "unseen_tests.rs"]
mod tests;
