//! The queue as the records show it: why each queued job waits, and which job is next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use common::hold::Hold;
use common::ids::{JobId, JobName};
use common::record::{JobRecord, State};
use common::wait_reason::WaitReason;
use jiff::Timestamp;

use super::heads::RecordHead;
use crate::job_box::BoxId;

/// Queued and running jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Jobs that wait only for a free slot of the platform, in the order in which they start.
    pub ready: Vec<JobId>,
    /// Jobs that wait for other jobs, or for a slot of their group, each with the reason.
    pub waiting: BTreeMap<JobId, WaitReason>,
    /// Number of slots in use.
    pub busy_count: usize,
    /// Number of slots in use by jobs that pause in their thread.
    pub held_count: usize,
}

/// Use of a slot by a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotUse {
    /// The job uses no slot: it is queued, has ended, or pauses in a box of its own.
    None,
    /// The job runs.
    Running,
    /// The job pauses in its thread, and the slot waits with it.
    Held,
}

impl SlotUse {
    fn of_job(job: &JobId, created_at: Timestamp, state: State, run: RunOfJob<'_>) -> Self {
        let RunOfJob { epoch, agent, held } = run;
        match held {
            _ if !is_running(state) => Self::None,
            None => Self::Running,
            Some(_) if agent == Some(&BoxId::of_run(job, created_at, epoch).agent()) => Self::None,
            Some(_) => Self::Held,
        }
    }
}

/// Newest run of a job.
struct RunOfJob<'a> {
    epoch: u32,
    agent: Option<&'a str>,
    held: Option<&'a Hold>,
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
    /// Use of a slot.
    pub slot: SlotUse,
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
            slot: SlotUse::of_job(
                &head.job,
                head.created_at,
                head.state,
                RunOfJob { epoch: head.epoch, agent: head.agent.as_deref(), held: head.held.as_ref() },
            ),
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
            slot: SlotUse::of_job(
                &record.job,
                record.created_at,
                record.state,
                RunOfJob { epoch: record.epoch, agent: record.agent.as_deref(), held: record.held.as_ref() },
            ),
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
            queue.busy_count += usize::from(row.slot != SlotUse::None);
            queue.held_count += usize::from(row.slot == SlotUse::Held);
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
            slot: if is_running(state) { SlotUse::Running } else { SlotUse::None },
        }
    }

    #[test]
    fn a_held_job_keeps_its_slot_unless_it_has_a_box() {
        use crate::render::samples;
        let hold = Hold {
            kind: common::event::FailureKind::UsageLimit,
            message: String::new(),
            until: None,
            next_try_at: None,
        };
        let mut running = samples::minimal_record("a#1", State::Running);
        (running.epoch, running.agent) = (1, Some("platform".to_owned()));
        let mut held = JobRecord { job: "b#1".parse().unwrap(), held: Some(hold), ..running.clone() };
        let counts = |records: [&JobRecord; 2]| {
            let queue = Queue::new(&records.map(QueueRow::from), &BTreeMap::new());
            (queue.busy_count, queue.held_count)
        };
        assert_eq!(counts([&running, &held]), (2, 1));
        held.agent = Some(BoxId::of_run(&held.job, held.created_at, 1).agent());
        assert_eq!(counts([&running, &held]), (1, 0));
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
        assert_eq!((queue.busy_count, queue.held_count), (1, 0));
        assert_eq!(queue.position(&"b#7".parse().unwrap()), 1);
    }
}
