//! Every record of the registry, read again only if its file has changed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;

use common::ids::JobId;
use common::record::{JobRecord, State};

use crate::registry::{Registry, read};

/// Identity and version of a file: changes when the file is replaced or its content changes.
type FileVersion = (u64, u64, i64, i64);

/// Records as last read.
#[derive(Default)]
pub(super) struct Records {
    known: BTreeMap<JobId, (FileVersion, JobRecord)>,
}

impl Records {
    /// Returns at most `max_records` records in display order: running jobs, queued jobs, then the newest ended ones.
    pub(super) fn load(&mut self, registry: &Registry, max_records: usize) -> io::Result<Vec<JobRecord>> {
        let mut now = BTreeMap::new();
        for job in read::unarchived_jobs(registry)? {
            let Ok(file) = registry.record(&job).metadata() else { continue };
            let version = (file.ino(), file.len(), file.mtime(), file.mtime_nsec());
            let known = self.known.remove(&job).filter(|(known, _)| *known == version);
            // An unreadable record is read again at the next call.
            let record = match known {
                Some((_, record)) => record,
                None => match read::load_record(registry, &job) {
                    Ok(stored) => stored.record,
                    Err(_) => continue,
                },
            };
            now.insert(job, (version, record));
        }
        self.known = now;
        let mut records: Vec<&JobRecord> = self.known.values().map(|(_, record)| record).collect();
        records.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)).then_with(|| b.job.cmp(&a.job)));
        Ok(records.into_iter().take(max_records).cloned().collect())
    }
}

/// Sort key: newest first for running and ended jobs, the next one first for queued jobs.
fn sort_key(record: &JobRecord) -> (u8, i64) {
    let created = record.created_at.as_millisecond();
    match record.state {
        State::Queued => (1, created),
        state if state.is_final() => (2, -record.finished_at.unwrap_or(record.created_at).as_millisecond()),
        _ => (0, -created),
    }
}
