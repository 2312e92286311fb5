//! Ends that nobody was told of yet: who tells of one claims it first, so that none is told twice.
//!
//! ```text
//! outbox ─ untold ─► those of interest ─ take: claim, read ─► records ─► told │ give_back where that failed
//! ```

use std::io;
use std::time::Duration;

use common::record::JobRecord;
use jiff::Timestamp;

use super::outbox::{self, Entry, Shown};
use super::{Registry, read};

/// How long whoever stayed with a job to its end (`relay run`) has time to tell of it.
const ATTENDED: Duration = Duration::from_secs(10);

/// Ends that were taken to be told.
#[derive(Debug, Default)]
pub struct Taken {
    /// The records, in the order of the ends.
    pub records: Vec<JobRecord>,
    /// How many ends are left for the next time.
    pub left: usize,
}

/// The ends that nobody was told of yet, oldest first. Those that a session got as its input were told.
///
/// # Errors
/// When the outbox can't be read; one that is not there is empty. An entry that can't be read is passed over.
pub fn untold(registry: &Registry, now: Timestamp) -> io::Result<Vec<Entry>> {
    let mut ends = Vec::new();
    for job in outbox::unshown(registry)? {
        let Ok(Some(entry)) = outbox::read(registry, &job) else { continue };
        let queued = entry.ways.get("codex").is_some_and(|way| way.state == outbox::WayState::Taken);
        if !queued && !is_attended(registry, &entry, now) {
            ends.push(entry);
        }
    }
    ends.sort_by(|a, b| (a.ended_at, &a.job).cmp(&(b.ended_at, &b.job)));
    Ok(ends)
}

/// Whether somebody is just telling of it.
fn is_attended(registry: &Registry, entry: &Entry, now: Timestamp) -> bool {
    let since = Duration::try_from(now.duration_since(entry.ended_at)).unwrap_or_default();
    since < ATTENDED && read::load(registry, &entry.job).is_ok_and(|stored| stored.record.origin.attended)
}

/// Takes the first `most` of `ends`: with `shown` each is claimed, and passed over where somebody else has it.
///
/// # Errors
/// When the outbox can't be written; nothing is claimed then.
pub fn take(registry: &Registry, ends: &[Entry], most: usize, shown: Option<&Shown>) -> io::Result<Taken> {
    let mut taken = Taken { left: ends.len(), ..Taken::default() };
    for entry in ends {
        if taken.records.len() == most {
            break;
        }
        taken.left -= 1;
        let claimed = shown.map(|shown| outbox::claim(registry, &entry.job, shown)).transpose();
        if !claimed.inspect_err(|_| give_back(registry, &taken.records))?.unwrap_or(true) {
            continue;
        }
        // A job that was removed for good has nothing to tell any more: its claim stands.
        taken.records.extend(read::load(registry, &entry.job).map(|stored| stored.record));
    }
    Ok(taken)
}

/// Takes claims back: nobody read what was told.
pub fn give_back<'a>(registry: &Registry, records: impl IntoIterator<Item = &'a JobRecord>) {
    for record in records {
        // What can't be taken back is lost to this way alone: `relay status` still tells it.
        let _ = outbox::unclaim(registry, &record.job);
    }
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod tests;
