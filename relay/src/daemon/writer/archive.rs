//! Moves ended jobs, except the newest, to the folder `archive/`, so that listings stay fast with 10,000 jobs.

use std::collections::BTreeSet;
use std::io;

use common::ids::JobId;
use jiff::Timestamp;

use crate::registry::{Registry, outbox};

/// Maximum number of ended jobs outside of the archive.
const MAX_UNARCHIVED: usize = 200;

/// Ended jobs that are not in the archive, each with the time of its end.
pub(super) struct ArchiveQueue {
    ended_jobs: BTreeSet<(Timestamp, JobId)>,
}

impl ArchiveQueue {
    pub(super) fn new(ended_jobs: Vec<(Timestamp, JobId)>) -> Self {
        Self { ended_jobs: ended_jobs.into_iter().collect() }
    }

    pub(super) fn add_ended_job(&mut self, finished_at: Timestamp, job: JobId) {
        self.ended_jobs.insert((finished_at, job));
    }

    /// Archives the oldest jobs until [`MAX_UNARCHIVED`] are left. A failed move is retried when the next job ends.
    pub(super) fn archive_oldest(&mut self, registry: &Registry) {
        while self.ended_jobs.len() > MAX_UNARCHIVED {
            let Some((finished_at, job)) = self.ended_jobs.pop_first() else { return };
            if let Err(e) = archive_job(registry, &job) {
                tracing::warn!("{job} could not be archived, which is retried later: {e}");
                self.ended_jobs.insert((finished_at, job));
                return;
            }
        }
    }
}

/// Moves a job to the archive, the record last: a reader who finds the record there also finds the other files.
fn archive_job(registry: &Registry, job: &JobId) -> io::Result<()> {
    let archive = registry.archive_registry();
    let moves = [
        (registry.spec(job), archive.spec(job)),
        (registry.pack(job), archive.pack(job)),
        (registry.images(job), archive.images(job)),
        (registry.log(job), archive.log(job)),
        (registry.events(job), archive.events(job)),
        (registry.record(job), archive.record(job)),
    ];
    for (from, to) in moves {
        match from.rename(&to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    outbox::remove_if_claimed(registry, job)
}
