//! Queued jobs that wait for other jobs to complete (`--after`). Pure.
//!
//! ```text
//!  added ──► waiting ──every dependency completed──► queued
//!               └──one did not complete──► fails
//! ```
//!
//! Dependencies end only once and never go back, so a job that waits for nothing is not added again.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::JobId;
use common::record::{JobRecord, State};

/// State of a job that others wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum DependencyState {
    /// The job has not ended, or its record can't be read now.
    Pending,
    /// The job completed, but its result is not recorded yet.
    ResultPending,
    Completed,
    /// The job ended in this other state.
    Ended(State),
    /// The job is no longer in the registry.
    Removed,
}

impl DependencyState {
    /// Returns the state of a job with this record. `lacks_result` is true if a result will be recorded.
    pub(in crate::daemon) fn of_record(record: &JobRecord, lacks_result: bool) -> Self {
        match record.state {
            State::Completed if lacks_result => Self::ResultPending,
            State::Completed => Self::Completed,
            state if state.is_final() => Self::Ended(state),
            _ => Self::Pending,
        }
    }
}

#[derive(Debug, Default)]
struct WaitingJob {
    waits_for: BTreeSet<JobId>,
    /// The dependency whose result the job starts from.
    base: Option<JobId>,
}

/// Jobs that wait, and the jobs that they wait for.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    waiting: BTreeMap<JobId, WaitingJob>,
    /// Waiting jobs by the job that they wait for.
    dependents: BTreeMap<JobId, BTreeSet<JobId>>,
}

/// Jobs that no longer wait.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Jobs whose dependencies have all completed.
    pub(super) ready: Vec<JobId>,
    /// Jobs that can't start, each with the reason in one line.
    pub(super) failed: Vec<(JobId, String)>,
}

impl Dependencies {
    /// Adds a job that waits for others.
    pub(super) fn add(&mut self, record: &JobRecord) {
        let waits_for: BTreeSet<JobId> = record.after.iter().chain(&record.base_job).cloned().collect();
        for dependency in &waits_for {
            self.dependents.entry(dependency.clone()).or_default().insert(record.job.clone());
        }
        if !waits_for.is_empty() {
            self.waiting.insert(record.job.clone(), WaitingJob { waits_for, base: record.base_job.clone() });
        }
    }

    /// Removes a job that waits no longer, if it did.
    pub(super) fn remove(&mut self, job: &JobId) {
        for dependency in self.waiting.remove(job).unwrap_or_default().waits_for {
            self.remove_dependent(&dependency, job);
        }
    }

    /// Returns true if the job waits for another one.
    pub(super) fn is_waiting(&self, job: &JobId) -> bool {
        self.waiting.contains_key(job)
    }

    /// Returns the jobs that this one waits for.
    pub(super) fn of_job(&self, job: &JobId) -> impl Iterator<Item = &JobId> {
        self.waiting.get(job).into_iter().flat_map(|waiting| &waiting.waits_for)
    }

    /// Returns every job that others wait for.
    pub(super) fn all(&self) -> impl Iterator<Item = &JobId> {
        self.dependents.keys()
    }

    /// Handles the state of a job that others may wait for.
    pub(super) fn settle(&mut self, dependency: &JobId, state: DependencyState) -> Settled {
        let mut settled = Settled::default();
        for job in self.dependents.get(dependency).cloned().unwrap_or_default() {
            let needs_result = |waiting: &WaitingJob| waiting.base.as_ref() == Some(dependency);
            match state {
                DependencyState::Pending => {}
                DependencyState::ResultPending if self.waiting.get(&job).is_some_and(needs_result) => {}
                DependencyState::ResultPending | DependencyState::Completed => {
                    if self.complete(&job, dependency) {
                        settled.ready.push(job);
                    }
                }
                DependencyState::Ended(state) => {
                    self.remove(&job);
                    let reason = format!("{dependency} {}: {}", past_tense(state), advice(dependency));
                    settled.failed.push((job, reason));
                }
                DependencyState::Removed => {
                    self.remove(&job);
                    let reason = format!("{dependency} is no longer in the registry: {}", advice(dependency));
                    settled.failed.push((job, reason));
                }
            }
        }
        settled
    }

    /// Removes a dependency that has completed. Returns true if it was the job's last one.
    fn complete(&mut self, job: &JobId, dependency: &JobId) -> bool {
        self.remove_dependent(dependency, job);
        let Some(waiting) = self.waiting.get_mut(job) else { return false };
        waiting.waits_for.remove(dependency);
        let is_last = waiting.waits_for.is_empty();
        if is_last {
            self.waiting.remove(job);
        }
        is_last
    }

    fn remove_dependent(&mut self, dependency: &JobId, job: &JobId) {
        if let Some(jobs) = self.dependents.get_mut(dependency) {
            jobs.remove(job);
            if jobs.is_empty() {
                self.dependents.remove(dependency);
            }
        }
    }
}

fn advice(dependency: &JobId) -> String {
    format!("this job starts only after {dependency} has completed (--after)")
}

fn past_tense(state: State) -> &'static str {
    if state == State::Cancelled { "was cancelled" } else { "failed" }
}
