//! Scan of the registry at startup: separates ended jobs, which need no recovery, from all others.

use std::collections::BTreeSet;
use std::io;

use common::ids::JobId;
use common::record::SCHEMA;
use jiff::Timestamp;

use super::log_repair;
use crate::registry::{Registry, read};

/// Jobs of the registry.
pub(super) struct ScanResult {
    /// Ended jobs that are not in the archive, with their end times.
    pub(super) ended_jobs: Vec<(Timestamp, JobId)>,
    /// Jobs whose record shows no end, or can't be read.
    pub(super) other_jobs: Vec<JobId>,
}

/// Reads every record but no log, because a record with an end was written after its log.
///
/// # Errors
/// Fails if the registry can't be read.
pub(super) fn scan_registry(registry: &Registry) -> io::Result<ScanResult> {
    let mut jobs: BTreeSet<JobId> = read::unarchived_jobs(registry)?.into_iter().collect();
    jobs.extend(log_repair::jobs_with_logs(registry)?);
    let mut found = ScanResult { ended_jobs: Vec::new(), other_jobs: Vec::new() };
    for job in jobs {
        let record = read::load_record(registry, &job).ok().map(|stored| stored.record);
        match record.filter(|record| record.schema <= SCHEMA).and_then(|record| record.finished_at) {
            Some(finished_at) => found.ended_jobs.push((finished_at, job)),
            None => found.other_jobs.push(job),
        }
    }
    Ok(found)
}
