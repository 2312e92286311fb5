//! Ends that nobody was told of yet: who tells of one claims it first, so that none is told twice.
//!
//! ```text
//! outbox ─ untold ─► those of interest ─ take: claim, read ─► records ─► told │ give_back where that failed
//! ```

use std::io;

use common::record::JobRecord;

use super::outbox::{self, Entry, Shown};
use super::{Registry, read};

/// Ends that were taken to be told.
#[derive(Debug, Default)]
pub struct Taken {
    /// The records, in the order of the ends.
    pub records: Vec<JobRecord>,
    /// How many ends are left for the next time.
    pub left: usize,
}

/// The ends that nobody was told of yet, oldest first.
///
/// # Errors
/// When the outbox can't be read; one that is not there is empty. An entry that can't be read is passed over.
pub fn untold(registry: &Registry) -> io::Result<Vec<Entry>> {
    let entry = |job| outbox::read(registry, &job).ok().flatten();
    let mut ends: Vec<Entry> = outbox::unshown(registry)?.into_iter().filter_map(entry).collect();
    ends.sort_by(|a, b| (a.ended_at, &a.job).cmp(&(b.ended_at, &b.job)));
    Ok(ends)
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
