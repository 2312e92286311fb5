//! Cache of the records of a registry: a record is read again only if its file has changed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;

use common::ids::JobId;
use common::record::{JobRecord, State};

use crate::registry::{Registry, read};

/// Inode, length in bytes, and modification time in seconds and nanoseconds of a file. Changes with its content.
type FileVersion = (u64, u64, i64, i64);

/// Records as they were read last, each with the version of its file.
#[derive(Default)]
pub(super) struct RecordCache {
    cached: BTreeMap<JobId, (FileVersion, JobRecord)>,
}

impl RecordCache {
    /// Returns at most `max_records` records in display order: running jobs, queued jobs, then the newest ended ones.
    pub(super) fn load(&mut self, registry: &Registry, max_records: usize) -> io::Result<Vec<JobRecord>> {
        let mut current = BTreeMap::new();
        for job in read::jobs_in_folder(registry)? {
            let Ok(file) = registry.record(&job).metadata() else { continue };
            let version = (file.ino(), file.len(), file.mtime(), file.mtime_nsec());
            let unchanged = self.cached.remove(&job).filter(|(cached, _)| *cached == version);
            // An unreadable record is read again at the next call.
            let record = match unchanged {
                Some((_, record)) => record,
                None => match read::load_record(registry, &job) {
                    Ok(stored) => stored.record,
                    Err(_) => continue,
                },
            };
            current.insert(job, (version, record));
        }
        self.cached = current;
        let mut records: Vec<&JobRecord> = self.cached.values().map(|(_, record)| record).collect();
        records.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)).then_with(|| b.job.cmp(&a.job)));
        Ok(records.into_iter().take(max_records).cloned().collect())
    }
}

/// Returns the sort key of a record: running jobs, queued jobs, ended jobs; the newest first, of queued the oldest.
fn sort_key(record: &JobRecord) -> (u8, i64) {
    let created = record.created_at.as_millisecond();
    match record.state {
        State::Queued => (1, created),
        state if state.is_final() => (2, -record.finished_at.unwrap_or(record.created_at).as_millisecond()),
        _ => (0, -created),
    }
}
