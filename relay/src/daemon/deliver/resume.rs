//! Resumes deliveries when the daemon starts.

use std::io;
use std::time::Duration;

use common::ids::JobId;
use common::record::{JobRecord, SCHEMA_VERSION};
use jiff::Timestamp;

use super::plan::ChannelKind;
use super::session::MESSAGE_CLAIMANT;
use crate::registry::outbox::{self, ChannelState, OutboxEntry};
use crate::registry::{Registry, read};

/// Maximum time since the end of a job for which a missing outbox entry is created. A later notification is useless.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Returns the outbox entries that have pending deliveries. Removes the entries of removed jobs.
pub(super) fn pending_entries(registry: &Registry) -> io::Result<Vec<OutboxEntry>> {
    let mut pending = Vec::new();
    for name in registry.outbox().names()? {
        let entry_stem = name.strip_suffix(".json").map(|stem| (stem, true));
        let Some((stem, is_entry)) =
            entry_stem.or_else(|| name.strip_suffix(".shown").map(|stem| (stem, false)))
        else {
            continue;
        };
        let Ok(job) = stem.parse::<JobId>() else { continue };
        match outbox::read_entry(registry, &job) {
            // An entry with a newer schema is left to the newer version of relay that wrote it.
            Ok(Some(entry)) if entry.schema > outbox::SCHEMA_VERSION => {}
            Ok(Some(entry))
                if entry.channels.values().any(|channel| channel.state == ChannelState::Pending) =>
            {
                if is_entry {
                    release_unsent_claim(registry, &entry);
                    pending.push(entry);
                }
            }
            Ok(entry) => {
                if let Some(entry) = &entry {
                    release_unsent_claim(registry, entry);
                }
                remove_archived_entry(registry, &job);
            }
            Err(e) => {
                tracing::warn!("{job}: its deliveries can't be read and start again: {e}");
                outbox::remove_entry(registry, &job)?;
            }
        }
    }
    Ok(pending)
}

/// Releases the claim for a message that was never sent to its session because the daemon was killed.
fn release_unsent_claim(registry: &Registry, entry: &OutboxEntry) {
    let channel = entry.channels.get(ChannelKind::Codex.as_str());
    let is_unsent = channel.is_some_and(|channel| channel.state != ChannelState::Accepted)
        && outbox::read_claim(registry, &entry.job).is_some_and(|claim| claim.by == MESSAGE_CLAIMANT);
    if is_unsent && let Err(e) = outbox::release_claim(registry, &entry.job) {
        tracing::warn!("{}: the claim of a message that was not sent can't be released: {e}", entry.job);
    }
}

/// Removes the completed entry of a job that was removed, or that was archived and whose notification was shown.
pub(super) fn remove_archived_entry(registry: &Registry, job: &JobId) {
    let result = if registry.record(job).exists() {
        Ok(())
    } else if registry.archive_registry().record(job).exists() {
        outbox::remove_if_claimed(registry, job)
    } else {
        outbox::remove_entry(registry, job)
    };
    if let Err(e) = result {
        tracing::warn!("{job}: its entry in the outbox can't be removed: {e}");
    }
}

/// Calls `visit` with the record of each job that ended recently and has no outbox entry.
pub(super) fn visit_jobs_without_entry(
    registry: &Registry,
    now: Timestamp,
    mut visit: impl FnMut(&JobRecord),
) -> io::Result<()> {
    let is_recent = |at: Timestamp| now.duration_since(at).unsigned_abs() < MAX_AGE;
    for job in read::jobs_in_folder(registry)?.into_iter().filter(|job| !registry.outbox_entry(job).exists())
    {
        let Ok(record) = read::load_record(registry, &job).map(|stored| stored.record) else { continue };
        if record.schema <= SCHEMA_VERSION && record.finished_at.is_some_and(is_recent) {
            visit(&record);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::registry::outbox::{ChannelDelivery, NoticeClaim, SCHEMA_VERSION};

    use super::*;

    #[test]
    fn a_notice_whose_message_was_never_sent_is_no_longer_claimed() {
        let (_dir, registry) = Registry::temporary();
        let states = [ChannelState::Pending, ChannelState::GivenUp, ChannelState::Accepted];
        let jobs: Vec<JobId> = (1..=3).map(|n| format!("a#{n}").parse().unwrap()).collect();
        for (job, state) in jobs.iter().zip(states) {
            let channel = ChannelDelivery { state, attempts: 1, next_at: None, last_error: None };
            let entry = OutboxEntry {
                schema: SCHEMA_VERSION,
                job: job.clone(),
                ended_at: Timestamp::UNIX_EPOCH,
                session: None,
                channels: BTreeMap::from([("codex".to_owned(), channel)]),
            };
            outbox::write_entry(&registry, &entry).unwrap();
            std::fs::write(registry.record(job), "{}").unwrap();
            let claim =
                NoticeClaim { at: Timestamp::UNIX_EPOCH, by: MESSAGE_CLAIMANT.to_owned(), session: None };
            assert!(outbox::claim_notice(&registry, job, &claim).unwrap());
        }
        let pending = pending_entries(&registry).unwrap();
        assert_eq!(pending.iter().map(|entry| &entry.job).collect::<Vec<_>>(), [&jobs[0]]);
        assert_eq!(outbox::unclaimed_jobs(&registry).unwrap(), jobs[..2]);
    }
}
