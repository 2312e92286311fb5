//! Every record of the registry, read again only when its file has changed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;

use common::ids::JobId;
use common::record::{JobRecord, State};

use crate::registry::{Registry, read};

/// What tells that a file is another one, or has another content.
type Mark = (u64, u64, i64, i64);

/// The records as they were last read.
#[derive(Default)]
pub(super) struct Records {
    known: BTreeMap<JobId, (Mark, JobRecord)>,
}

impl Records {
    /// What the list shows, in its order: what runs, what is queued, then the newest ends; at most `most`.
    ///
    /// # Errors
    /// When the registry's folder can't be read.
    pub(super) fn look(&mut self, registry: &Registry, most: usize) -> io::Result<Vec<JobRecord>> {
        let mut now = BTreeMap::new();
        for job in read::jobs(registry)? {
            let Ok(file) = registry.record(&job).metadata() else { continue };
            let mark = (file.ino(), file.len(), file.mtime(), file.mtime_nsec());
            let known = self.known.remove(&job).filter(|(known, _)| *known == mark);
            // A record that can't be read at the moment is looked at again.
            let record = match known {
                Some((_, record)) => record,
                None => match read::load(registry, &job) {
                    Ok(stored) => stored.record,
                    Err(_) => continue,
                },
            };
            now.insert(job, (mark, record));
        }
        self.known = now;
        let mut records: Vec<&JobRecord> = self.known.values().map(|(_, record)| record).collect();
        records.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| b.job.cmp(&a.job)));
        Ok(records.into_iter().take(most).cloned().collect())
    }
}

/// Newest first within what runs and what has ended; the next one first within the queue.
fn order(record: &JobRecord) -> (u8, i64) {
    let created = record.created_at.as_millisecond();
    match record.state {
        State::Queued => (1, created),
        state if state.is_final() => (2, -record.finished_at.unwrap_or(record.created_at).as_millisecond()),
        _ => (0, -created),
    }
}
