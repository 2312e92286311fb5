//! Moves ended jobs beyond the newest to `archive/`, so that listings stay as fast with 10,000 jobs as with ten.

use std::collections::BTreeSet;
use std::io;

use common::ids::JobId;
use jiff::Timestamp;

use crate::registry::{Registry, outbox};

/// Number of ended jobs that stay.
const MAX_UNARCHIVED: usize = 200;

pub(super) struct Archive {
    ended: BTreeSet<(Timestamp, JobId)>,
}

impl Archive {
    pub(super) fn new(ended: Vec<(Timestamp, JobId)>) -> Self {
        Self { ended: ended.into_iter().collect() }
    }

    /// Adds an ended job.
    pub(super) fn add(&mut self, finished_at: Timestamp, job: JobId) {
        self.ended.insert((finished_at, job));
    }

    /// Archives the oldest jobs. A job that can't be moved is tried again after the next job has ended.
    pub(super) fn trim(&mut self, registry: &Registry) {
        while self.ended.len() > MAX_UNARCHIVED {
            let Some((finished_at, job)) = self.ended.pop_first() else { return };
            if let Err(e) = put_away(registry, &job) {
                tracing::warn!("{job} could not be archived and stays where it is for now: {e}");
                self.ended.insert((finished_at, job));
                return;
            }
        }
    }
}

/// Moves a job to the archive. The record goes last: a reader that finds it in the archive finds all other files there
/// too.
fn put_away(registry: &Registry, job: &JobId) -> io::Result<()> {
    let archive = registry.archived();
    let moves = [
        (registry.spec(job), archive.spec(job)),
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
    outbox::remove_told(registry, job)
}
