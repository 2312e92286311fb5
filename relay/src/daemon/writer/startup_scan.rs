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
    pub(super) ended: Vec<(Timestamp, JobId)>,
    /// Jobs whose record shows no end, or can't be read.
    pub(super) others: Vec<JobId>,
}

/// Reads every record, and no log: a record that shows an end was written after its log.
pub(super) fn scan_registry(registry: &Registry) -> io::Result<ScanResult> {
    let mut jobs: BTreeSet<JobId> = read::jobs(registry)?.into_iter().collect();
    jobs.extend(log_repair::jobs_with_logs(registry)?);
    let mut found = ScanResult { ended: Vec::new(), others: Vec::new() };
    for job in jobs {
        let record = read::load(registry, &job).ok().map(|stored| stored.record);
        match record.filter(|record| record.schema <= SCHEMA).and_then(|record| record.finished_at) {
            Some(finished_at) => found.ended.push((finished_at, job)),
            None => found.others.push(job),
        }
    }
    Ok(found)
}
