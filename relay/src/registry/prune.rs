//! Permanent removal of archived jobs, by the daemon, or by a command if no daemon runs; one at a time, by a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use common::ids::JobId;
use common::record::SCHEMA_VERSION;
use common::result::JobResult;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Registry, create, heads, outbox, read, workspace_copy};
use crate::job_identity::JobIdentity;

/// Retention rules. A job is removed if no rule keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Number of newest archived jobs to keep.
    pub newest: u64,
    /// Jobs that ended after this time are kept; `None` if no job is kept because of its age.
    pub since: Option<Timestamp>,
}

/// Removes archived jobs and returns them, in the order in which they ended. A call after a crash continues the work,
/// because a job's record is removed last.
pub fn prune_archive(registry: &Registry, retention: &Retention) -> io::Result<Vec<JobIdentity>> {
    let _lock = create::open_locked(&registry.prune_lock())?;
    let archive = registry.archive_registry();
    let awaited_jobs = awaited_jobs(registry)?;
    let records = read::read_records(&archive)?;
    let removable = records
        .iter()
        .map(|stored| stored.record)
        .filter(|record| record.schema <= SCHEMA_VERSION && record.state.is_final())
        // A job is kept until its result was applied, merged or discarded.
        .filter(|record| !record.result.as_ref().is_some_and(JobResult::is_open))
        .filter(|record| !awaited_jobs.contains(&record.job));
    let mut workspaces = BTreeMap::new();
    let removable = removable.filter_map(|record| {
        let identity = JobIdentity::of(&record);
        workspaces.insert(record.job.clone(), record.workspace);
        Some((record.finished_at?, identity))
    });
    let removed = choose_jobs(removable.collect(), retention);
    let removed_jobs: Vec<JobId> = removed.iter().map(|identity| identity.job().clone()).collect();
    create::remember_numbers(registry, &removed_jobs)?;
    create::remove_keys(registry, &removed_jobs.iter().collect())?;
    for job in &removed_jobs {
        if let Some(workspace) = workspaces.get(job) {
            workspace_copy::remove_log_copy(Path::new(workspace), job);
        }
        let others = [archive.spec(job), archive.pack(job), archive.images(job), archive.log(job)];
        for file in others.into_iter().chain([archive.events(job), archive.record(job)]) {
            file.remove()?;
        }
        outbox::remove_unless_pending(registry, job)?;
    }
    Ok(removed)
}

/// Returns the jobs that unfinished jobs wait for.
fn awaited_jobs(registry: &Registry) -> io::Result<BTreeSet<JobId>> {
    let unfinished = heads::read_heads(registry)?.filter(|head| !head.state.is_final());
    Ok(unfinished.flat_map(|head| head.after.into_iter().chain(head.base_job)).collect())
}

/// Selects the jobs to remove from the jobs that may be removed. Pure.
fn choose_jobs(removable: BTreeSet<(Timestamp, JobIdentity)>, retention: &Retention) -> Vec<JobIdentity> {
    let surplus = removable.len().saturating_sub(usize::try_from(retention.newest).unwrap_or(usize::MAX));
    let not_newest = removable.into_iter().take(surplus);
    not_newest
        .filter(|(at, _)| retention.since.is_none_or(|since| *at <= since))
        .map(|(_, job)| job)
        .collect()
}

#[cfg(test)]
mod tests {
    use common::record::State;

    use super::*;
    use crate::render::samples;

    #[test]
    fn a_job_that_another_one_waits_for_stays() {
        let (_dir, registry) = Registry::temporary();
        for (home, job, state) in [
            (registry.archive_registry(), "a#1", State::Completed),
            (registry.archive_registry(), "a#2", State::Completed),
            (registry.clone(), "b#1", State::Queued),
        ] {
            let mut record = samples::minimal_record(job, state);
            record.finished_at = Some(Timestamp::UNIX_EPOCH);
            record.after = if state == State::Queued { vec!["a#1".parse().unwrap()] } else { Vec::new() };
            std::fs::write(home.record(&record.job), record.to_bytes().unwrap()).unwrap();
        }
        let removed = prune_archive(&registry, &Retention { newest: 0, since: None }).unwrap();
        assert_eq!(removed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a#2"]);
    }

    #[test]
    fn a_job_that_one_rule_keeps_is_not_removed() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let chosen = |newest, since: Option<i64>| {
            let ended = (1..=5).map(|n| (at(n), JobIdentity::for_test(&format!("a#{n}"), n))).collect();
            let numbers = choose_jobs(ended, &Retention { newest, since: since.map(at) });
            numbers.iter().map(|identity| identity.job().number()).collect::<Vec<_>>()
        };
        assert_eq!(chosen(2, None), [1, 2, 3]);
        assert_eq!(chosen(0, Some(2)), [1, 2]);
        assert_eq!(chosen(4, Some(3)), [1]);
        assert_eq!(chosen(9, Some(9)), [0; 0]);
    }
}
