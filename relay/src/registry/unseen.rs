//! Completion notices that no reader has shown yet. A reader claims a notice first, so that none is shown twice.
//!
//! ```text
//! outbox ─ unclaimed_notices ─► relevant ones ─ claim_notices ─► records ─► shown, or release_claims on failure
//! ```

use std::io;

use common::record::JobRecord;

use super::outbox::{self, NoticeClaim, OutboxEntry};
use super::{Registry, read};

/// Notices claimed for display.
#[derive(Debug, Default)]
pub struct ClaimedNotices {
    /// Records of the jobs, in the order of their notices.
    pub records: Vec<JobRecord>,
    /// Number of notices that remain for the next call.
    pub remaining: usize,
}

/// Returns the unclaimed notices, oldest first.
///
/// # Errors
/// Returns an error if the outbox can't be read. An absent outbox is empty, and an unreadable entry is skipped.
pub fn unclaimed_notices(registry: &Registry) -> io::Result<Vec<OutboxEntry>> {
    let entry = |job| outbox::read_entry(registry, &job).ok().flatten();
    let mut entries: Vec<OutboxEntry> =
        outbox::unclaimed_jobs(registry)?.into_iter().filter_map(entry).collect();
    entries.sort_by(|a, b| (a.ended_at, &a.job).cmp(&(b.ended_at, &b.job)));
    Ok(entries)
}

/// Returns the records for the first `max` notices. With a `claim`, claims each notice first, and skips notices that
/// another reader has claimed.
///
/// # Errors
/// Returns an error if the outbox can't be written. No notice is claimed then.
pub fn claim_notices(
    registry: &Registry,
    notices: &[OutboxEntry],
    max: usize,
    claim: Option<&NoticeClaim>,
) -> io::Result<ClaimedNotices> {
    let mut claimed_notices = ClaimedNotices { remaining: notices.len(), ..ClaimedNotices::default() };
    for entry in notices {
        if claimed_notices.records.len() == max {
            break;
        }
        claimed_notices.remaining -= 1;
        let is_claimed = claim.map(|claim| outbox::claim_notice(registry, &entry.job, claim)).transpose();
        if !is_claimed.inspect_err(|_| release_claims(registry, &claimed_notices.records))?.unwrap_or(true) {
            continue;
        }
        // A pruned job has no record to show, so its claim remains.
        claimed_notices.records.extend(read::load_record(registry, &entry.job).map(|stored| stored.record));
    }
    Ok(claimed_notices)
}

/// Releases claims on notices that were not shown.
pub fn release_claims<'a>(registry: &Registry, records: impl IntoIterator<Item = &'a JobRecord>) {
    for record in records {
        // If a claim can't be released, `relay status` still shows the outcome.
        let _ = outbox::release_claim(registry, &record.job);
    }
}

#[cfg(test)]
#[path = "unseen_tests.rs"]
mod tests;
