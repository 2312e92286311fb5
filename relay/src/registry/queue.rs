//! The queue as the records show it: why each queued job waits, and which job is next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::{JobId, JobName};
use common::record::{JobRecord, State};
use common::wait_reason::WaitReason;
use jiff::Timestamp;

use super::heads::RecordHead;

/// Queued and running jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Jobs that wait only for a free slot of the platform, in the order in which they start.
    pub ready: Vec<JobId>,
    /// Jobs that wait for other jobs, or for a slot of their group, each with the reason.
    pub waiting: BTreeMap<JobId, WaitReason>,
    /// Number of running jobs.
    pub running_count: usize,
}

/// Fields of a job that matter for the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRow {
    pub job: JobId,
    pub state: State,
    pub created_at: Timestamp,
    pub after: Vec<JobId>,
    pub group: Option<JobName>,
    /// True if the record says why the job waits.
    pub is_waiting: bool,
}

impl From<&RecordHead> for QueueRow {
    fn from(head: &RecordHead) -> Self {
        Self {
            job: head.job.clone(),
            state: head.state,
            created_at: head.created_at,
            after: head.after.clone(),
            group: head.group.clone(),
            is_waiting: head.waiting.is_some() || head.held.is_some(),
        }
    }
}

impl From<&JobRecord> for QueueRow {
    fn from(record: &JobRecord) -> Self {
        Self {
            job: record.job.clone(),
            state: record.state,
            created_at: record.created_at,
            after: record.after.clone(),
            group: record.group.clone(),
            is_waiting: record.waiting.is_some() || record.held.is_some(),
        }
    }
}

impl Queue {
    /// Builds the queue from these jobs. `limits` are the maximum numbers of concurrent jobs of groups.
    pub fn new(rows: &[QueueRow], limits: &BTreeMap<JobName, u32>) -> Self {
        let unfinished: BTreeSet<&JobId> =
            rows.iter().filter(|row| !row.state.is_final()).map(|row| &row.job).collect();
        let mut queue = Self::default();
        let mut running: BTreeMap<&JobName, u32> = BTreeMap::new();
        for row in rows.iter().filter(|row| is_running(row.state)) {
            queue.running_count += 1;
            if let Some(group) = &row.group {
                *running.entry(group).or_default() += 1;
            }
        }
        let group_reason = |group: &JobName| {
            let (limit, running) = (*limits.get(group)?, running.get(group).copied().unwrap_or(0));
            (running >= limit).then(|| WaitReason::Group { name: group.clone(), running, limit })
        };
        let mut ready = BTreeSet::new();
        for row in rows.iter().filter(|row| row.state == State::Queued) {
            let mut open_dependencies = row.after.iter().filter(|job| unfinished.contains(job));
            let dependency = open_dependencies
                .next()
                .map(|job| WaitReason::Dependency { job: job.clone(), more: open_dependencies.count() });
            match dependency.or_else(|| row.group.as_ref().and_then(group_reason)) {
                None if row.is_waiting => {}
                Some(reason) => drop(queue.waiting.insert(row.job.clone(), reason)),
                None => drop(ready.insert((row.created_at, &row.job))),
            }
        }
        queue.ready = ready.into_iter().map(|(_, job)| job.clone()).collect();
        queue
    }

    /// Returns the number of ready jobs that start before this job; 0 if this job is not ready.
    pub fn position(&self, job: &JobId) -> usize {
        self.ready.iter().position(|ready| ready == job).unwrap_or(0)
    }
}

/// Returns true for the state of a job that is neither queued nor ended.
fn is_running(state: State) -> bool {
    state != State::Queued && !state.is_final()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(job: &str, state: State, after: &[&str], group: Option<&str>) -> QueueRow {
        let job: JobId = job.parse().unwrap();
        QueueRow {
            created_at: Timestamp::from_second(i64::from(job.number())).unwrap(),
            job,
            state,
            after: after.iter().map(|job| job.parse().unwrap()).collect(),
            group: group.map(|group| group.parse().unwrap()),
            is_waiting: false,
        }
    }

    #[test]
    fn each_queued_job_has_one_reason_to_wait() {
        use State::{Completed, Queued, Running};
        let rows = [
            row("a#1", Completed, &[], None),
            row("a#2", Running, &[], Some("g")),
            row("b#3", Queued, &["a#1", "a#2", "b#4"], Some("g")),
            row("b#4", Queued, &[], Some("g")),
            row("b#5", Queued, &["a#1"], Some("free")),
            row("b#6", Queued, &["a#2"], None),
            row("b#7", Queued, &[], None),
        ];
        let queue = Queue::new(&rows, &[("g".parse().unwrap(), 1)].into());
        let shown: Vec<String> =
            queue.waiting.iter().map(|(job, reason)| format!("{job} {reason}")).collect();
        assert_eq!(
            shown,
            [
                "b#3 waits for a#2 and 1 more (--after)",
                "b#4 waits for a free slot of group g (1 of 1 run)",
                "b#6 waits for a#2 (--after)",
            ]
        );
        assert_eq!(queue.running_count, 1);
        assert_eq!(queue.position(&"b#7".parse().unwrap()), 1);
    }
}
