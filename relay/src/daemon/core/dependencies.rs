//! Queued jobs that wait for other jobs to complete (`--after`). Pure.
//!
//! ```text
//!  added ──► waiting ──every dependency completed──► queued
//!               └──one did not complete──► fails
//! ```
//!
//! A dependency ends only once and never runs again, so a job whose dependencies have completed is not added again.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::JobId;
use common::record::{JobRecord, State};

/// State of a dependency: a job that other jobs wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum DependencyState {
    /// The job has not ended, or its record can't be read now.
    Pending,
    /// The job has completed, but its result is not recorded yet.
    ResultPending,
    Completed,
    /// The job has ended in this state, which is not `Completed`.
    Ended(State),
    /// The job is no longer in the registry.
    Removed,
}

impl DependencyState {
    /// Returns the state of a job with this record. `lacks_result` is true if its result is not recorded yet.
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
    /// Jobs that have not completed yet.
    pending_dependencies: BTreeSet<JobId>,
    /// The dependency whose result the job starts from.
    base: Option<JobId>,
}

/// Jobs that wait for other jobs.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    waiting_jobs: BTreeMap<JobId, WaitingJob>,
    /// Waiting jobs, by the dependency that they wait for.
    dependents: BTreeMap<JobId, BTreeSet<JobId>>,
}

/// Jobs that no longer wait for a dependency.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SettledJobs {
    /// Jobs whose dependencies have all completed.
    pub(super) ready: Vec<JobId>,
    /// Jobs that can't start, each with the reason in one line.
    pub(super) failed: Vec<(JobId, String)>,
}

impl Dependencies {
    /// Adds a job, if it waits for other jobs.
    pub(super) fn add(&mut self, record: &JobRecord) {
        let pending_dependencies: BTreeSet<JobId> =
            record.after.iter().chain(&record.base_job).cloned().collect();
        for dependency in &pending_dependencies {
            self.dependents.entry(dependency.clone()).or_default().insert(record.job.clone());
        }
        if !pending_dependencies.is_empty() {
            self.waiting_jobs.insert(
                record.job.clone(),
                WaitingJob { pending_dependencies, base: record.base_job.clone() },
            );
        }
    }

    /// Removes a job that no longer waits. Does nothing for a job that did not wait.
    pub(super) fn remove(&mut self, job: &JobId) {
        for dependency in self.waiting_jobs.remove(job).unwrap_or_default().pending_dependencies {
            self.remove_dependent(&dependency, job);
        }
    }

    /// Returns true if a job waits for another job.
    pub(super) fn is_waiting(&self, job: &JobId) -> bool {
        self.waiting_jobs.contains_key(job)
    }

    /// Returns the dependencies that `job` waits for.
    pub(super) fn dependencies_of(&self, job: &JobId) -> impl Iterator<Item = &JobId> {
        self.waiting_jobs.get(job).into_iter().flat_map(|waiting_job| &waiting_job.pending_dependencies)
    }

    /// Returns every dependency that any job waits for.
    pub(super) fn all_dependencies(&self) -> impl Iterator<Item = &JobId> {
        self.dependents.keys()
    }

    /// Handles the state of a job that other jobs may wait for.
    pub(super) fn settle(&mut self, dependency: &JobId, state: DependencyState) -> SettledJobs {
        let mut settled = SettledJobs::default();
        for job in self.dependents.get(dependency).cloned().unwrap_or_default() {
            let needs_result = |waiting_job: &WaitingJob| waiting_job.base.as_ref() == Some(dependency);
            match state {
                DependencyState::Pending => {}
                DependencyState::ResultPending if self.waiting_jobs.get(&job).is_some_and(needs_result) => {}
                DependencyState::ResultPending | DependencyState::Completed => {
                    if self.complete(&job, dependency) {
                        settled.ready.push(job);
                    }
                }
                DependencyState::Ended(state) => {
                    self.remove(&job);
                    let reason = format!("{dependency} {}: {}", describe_outcome(state), advice(dependency));
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

    /// Removes a completed dependency of a job. Returns true if the job waits for no other dependency.
    fn complete(&mut self, job: &JobId, dependency: &JobId) -> bool {
        self.remove_dependent(dependency, job);
        let Some(waiting_job) = self.waiting_jobs.get_mut(job) else { return false };
        waiting_job.pending_dependencies.remove(dependency);
        let is_last = waiting_job.pending_dependencies.is_empty();
        if is_last {
            self.waiting_jobs.remove(job);
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

fn describe_outcome(state: State) -> &'static str {
    if state == State::Cancelled { "was cancelled" } else { "failed" }
}
