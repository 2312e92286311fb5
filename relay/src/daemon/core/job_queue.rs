//! Queue of the jobs that may start, oldest first. A job waits while its group has reached the group's limit. Pure.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{JobId, JobName};
use jiff::Timestamp;

/// Maximum number of concurrent jobs of each group that has a limit.
pub(in crate::daemon) type GroupLimits = BTreeMap<JobName, u32>;

/// Jobs that wait for nothing but a free slot. The cost of each call depends on the number of groups with a limit, not
/// on the number of jobs.
#[derive(Debug, Default)]
pub(super) struct JobQueue {
    limits: GroupLimits,
    /// Jobs of each group, sorted by time of launch. `None` has the jobs without a group that has a limit.
    jobs: BTreeMap<Option<JobName>, BTreeSet<(Timestamp, JobId)>>,
    /// Number of jobs that agents run or were offered, for each group with a limit.
    active_jobs: BTreeMap<JobName, u32>,
}

impl JobQueue {
    pub(super) fn new(limits: GroupLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Adds a job that may start.
    pub(super) fn push(&mut self, created_at: Timestamp, job: JobId, group: Option<&JobName>) {
        let group = self.limited_group(group);
        self.jobs.entry(group).or_default().insert((created_at, job));
    }

    /// Removes a job, if it is in the queue.
    pub(super) fn remove(&mut self, created_at: Timestamp, job: &JobId, group: Option<&JobName>) {
        let group = self.limited_group(group);
        if let Some(jobs) = self.jobs.get_mut(&group) {
            jobs.remove(&(created_at, job.clone()));
            if jobs.is_empty() {
                self.jobs.remove(&group);
            }
        }
    }

    /// Returns the oldest job whose group has a free slot.
    pub(super) fn next_job(&self) -> Option<JobId> {
        let open_groups =
            self.jobs.iter().filter(|(group, _)| group.as_ref().is_none_or(|group| self.is_open(group)));
        open_groups.filter_map(|(_, jobs)| jobs.first()).min().map(|(_, job)| job.clone())
    }

    /// Returns true if a group has a free slot.
    pub(super) fn has_slot(&self, group: Option<&JobName>) -> bool {
        self.limited_group(group).is_none_or(|group| self.is_open(&group))
    }

    /// Takes a slot of a group.
    pub(super) fn take_slot(&mut self, group: Option<&JobName>) {
        if let Some(group) = self.limited_group(group) {
            *self.active_jobs.entry(group).or_default() += 1;
        }
    }

    /// Frees a slot of a group.
    pub(super) fn free_slot(&mut self, group: Option<&JobName>) {
        if let Some(group) = self.limited_group(group)
            && let Some(active) = self.active_jobs.get_mut(&group)
        {
            *active = active.saturating_sub(1);
        }
    }

    fn limited_group(&self, group: Option<&JobName>) -> Option<JobName> {
        group.filter(|group| self.limits.contains_key(*group)).cloned()
    }

    fn is_open(&self, group: &JobName) -> bool {
        let limit = self.limits.get(group).copied().unwrap_or(u32::MAX);
        self.active_jobs.get(group).copied().unwrap_or(0) < limit
    }
}
