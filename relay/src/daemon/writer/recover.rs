//! What a start finds: jobs that go on, jobs that have ended, and what a crash has left of both.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use common::ids::JobId;
use common::job::JobSpec;
use common::record::JobRecord;
use jiff::Timestamp;

use super::ids::EventIds;
use super::job::OpenJob;
use super::repair;
use crate::registry::atomic::{self, Durability};
use crate::registry::{Registry, layout, read};

/// What the registry holds.
pub(super) struct Found {
    /// Jobs that have not ended.
    pub(super) active: Vec<JobRecord>,
    /// Ended jobs that are not in the archive, with their ends.
    pub(super) ended: Vec<(Timestamp, JobId)>,
}

/// Looks at every job and repairs those that have not ended.
///
/// # Errors
/// When the registry can't be read. A single job that can't be repaired is reported and left alone.
pub(super) fn recover(registry: &Registry, ids: &mut EventIds) -> io::Result<Found> {
    let mut jobs: BTreeSet<JobId> = read::jobs(registry)?.into_iter().collect();
    for entry in fs::read_dir(registry.dir())? {
        jobs.extend(entry?.file_name().to_str().and_then(layout::job_of_events));
    }
    let mut found = Found { active: Vec::new(), ended: Vec::new() };
    for job in jobs {
        let ended = read::load(registry, &job).ok().and_then(|stored| stored.record.finished_at);
        if let Some(finished_at) = ended {
            found.ended.push((finished_at, job));
            continue;
        }
        match settle(registry, &job, ids) {
            Ok(record) => match record.finished_at {
                Some(finished_at) => found.ended.push((finished_at, job)),
                None => found.active.push(record),
            },
            Err(e) => tracing::error!("{job} can't be recovered: {e}"),
        }
    }
    Ok(found)
}

/// Brings one job's record up to its log.
fn settle(registry: &Registry, job: &JobId, ids: &mut EventIds) -> io::Result<JobRecord> {
    let opened = repair::open(registry, job)?;
    if opened.record.state.is_final() {
        atomic::replace(&registry.record(job), &opened.record.to_bytes()?, Durability::Cached)?;
        return Ok(opened.record);
    }
    let mut open = OpenJob::open(registry, job, ids)?;
    open.commit(registry)?;
    Ok(open.record().clone())
}

/// Forgets the environment values in a job's spec.
///
/// # Errors
/// When the spec can't be read or replaced.
pub(super) fn drop_env(registry: &Registry, job: &JobId) -> io::Result<()> {
    let path = registry.spec(job);
    let mut spec: JobSpec = serde_json::from_slice(&fs::read(&path)?)?;
    if spec.env.is_empty() {
        return Ok(());
    }
    spec.env.clear();
    atomic::replace(&path, &serde_json::to_vec(&spec)?, Durability::Synced)
}

/// Sets the time limit in the spec of a job that no agent has yet.
///
/// # Errors
/// When the spec can't be read or replaced.
pub(super) fn move_limit(registry: &Registry, job: &JobId, job_ms: u64) -> io::Result<()> {
    let path = registry.spec(job);
    let mut spec: JobSpec = serde_json::from_slice(&fs::read(&path)?)?;
    spec.limits.job_ms = job_ms;
    atomic::replace(&path, &serde_json::to_vec(&spec)?, Durability::Synced)
}
