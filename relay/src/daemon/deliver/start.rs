//! What the pump finds when it begins.

use std::io;
use std::time::Duration;

use common::ids::JobId;
use common::record::{JobRecord, SCHEMA};
use jiff::Timestamp;

use crate::registry::outbox::{self, Entry, WayState};
use crate::registry::{Registry, read};

/// How long ago a job without an entry may have ended: a relay that was killed between an end and its entry is started
/// again before that, and nobody wants to be told of anything older.
const RECENT: Duration = Duration::from_secs(24 * 3600);

/// The jobs in the outbox, and the entries that are not done. What belongs to jobs that are gone is removed.
///
/// # Errors
/// When the folder can't be read.
pub(super) fn entries(registry: &Registry) -> io::Result<Vec<Entry>> {
    let mut pending = Vec::new();
    for name in registry.outbox().names()? {
        let entry = name.strip_suffix(".json").map(|stem| (stem, true));
        let Some((stem, is_entry)) = entry.or_else(|| name.strip_suffix(".shown").map(|stem| (stem, false)))
        else {
            continue;
        };
        let Ok(job) = stem.parse::<JobId>() else { continue };
        match outbox::read(registry, &job) {
            // What a newer program has written is not this one's to act on.
            Ok(Some(found)) if found.schema > outbox::SCHEMA => {}
            Ok(Some(found)) if found.ways.values().any(|way| way.state == WayState::Pending) => {
                if is_entry {
                    pending.push(found);
                }
            }
            Ok(_) => forget_archived(registry, &job),
            Err(e) => {
                tracing::warn!("{job}: what was to be delivered can't be read and is begun anew: {e}");
                outbox::remove(registry, &job)?;
            }
        }
    }
    Ok(pending)
}

/// Forgets an end that nothing is to be done for, once its job is no longer among the newest.
pub(super) fn forget_archived(registry: &Registry, job: &JobId) {
    if !registry.record(job).exists()
        && let Err(e) = outbox::remove(registry, job)
    {
        tracing::warn!("{job}: its place in the outbox can't be removed: {e}");
    }
}

/// Hands out the records of jobs that have ended lately and have no entry, one at a time.
///
/// # Errors
/// When the registry can't be read.
pub(super) fn without_entry(
    registry: &Registry,
    now: Timestamp,
    mut visit: impl FnMut(&JobRecord),
) -> io::Result<()> {
    let recent = |at: Timestamp| now.duration_since(at).unsigned_abs() < RECENT;
    for job in read::jobs(registry)?.into_iter().filter(|job| !registry.outbox_entry(job).exists()) {
        let Ok(record) = read::load(registry, &job).map(|stored| stored.record) else { continue };
        if record.schema <= SCHEMA && record.finished_at.is_some_and(recent) {
            visit(&record);
        }
    }
    Ok(())
}
