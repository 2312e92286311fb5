//! The scheduler: selects the next job and its agent, and returns the actions that follow an event. Pure.
//!
//! ```text
//!            found               offered               accepted (record says starting)
//!  (record) ──────► Queued ──────────────────► Offered ────────────────────────────► Running ──► (ended: forgotten)
//!                     ▲  agent full, gone for long, │
//!                     └──or back without the job────┘
//! ```
//!
//! A job is offered to the connected agent with the most free slots, and then belongs to that agent. A running job
//! stays with its agent while the agent is disconnected ([`super::agent_jobs`]). An agent whose machine has too little
//! memory or disk space is offered no job. A job is not offered while it waits for other jobs, for a folder or for a
//! slot of its group, or while it is held ([`super::held_jobs`]).

use std::collections::{BTreeMap, BTreeSet};

use common::event::{EventBody, FailureKind};
use common::ids::{JobId, JobName};
use common::record::{JobRecord, Link, State};
use common::wire::TerminationCause;
use jiff::Timestamp;

use super::account_hold::AccountHold;
use super::account_report::AccountUse;
use super::capacity::{AgentId, AgentTable, BoxSlots, Target};
use super::dependencies::{Dependencies, DependencyState};
use super::folder_guard::{FolderClaim, FolderGuard, FolderSharing};
use super::job_end::{cancelled_event, dependency_failed_event, refused_event};
use super::job_queue::{GroupLimits, JobQueue};
use super::own_holds::OwnHolds;
use crate::job_box::BoxId;

/// Action for the core to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Send the job to an agent.
    Start { agent: AgentId, job: JobId, epoch: u32 },
    /// Send a cancel to the agent that has the job.
    Cancel { agent: AgentId, job: JobId, grace_ms: u64 },
    /// Let a job go on that pauses in its Codex thread.
    Continue { agent: AgentId, job: JobId },
    /// Record an event of the relay itself.
    Record { job: JobId, body: EventBody },
    /// Warn of the job's expectations, if it has some: the other job, which works in the same folder, may meet them.
    WarnOfSharedExpectations { job: JobId, other: JobId },
    /// End an agent's connection: it reconnects at once with a new hello.
    Reconnect { agent: AgentId },
    /// Start the box of a job. If the box exists, it is used.
    StartBox(BoxId),
}

/// Assignment of a job to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Assignment {
    Queued,
    /// A box with this agent is being started for the job.
    AwaitingBox(AgentId),
    /// The job was sent to this agent, which has not accepted it yet.
    Offered(AgentId),
    /// This agent has accepted the job.
    Running(AgentId),
}

impl Assignment {
    pub(super) fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Queued => None,
            Self::AwaitingBox(agent) | Self::Offered(agent) | Self::Running(agent) => Some(agent),
        }
    }
}

/// A job that has not ended.
#[derive(Debug)]
pub(super) struct ScheduledJob {
    pub(super) assignment: Assignment,
    pub(super) created_at: Timestamp,
    pub(super) group: Option<JobName>,
    pub(super) epoch: u32,
    /// True if the newest state of the job's link is "lost". The record in the registry may not show it yet.
    pub(super) is_link_lost: bool,
    /// Folder that the job works in, unless the job has a clone of its own.
    pub(super) claim: Option<FolderClaim>,
    /// Newest recorded reason why the job waits.
    pub(super) wait_reason: Option<String>,
    /// Other jobs that work, or have worked, in the job's folder during the job.
    pub(super) sharing: FolderSharing,
    /// Facts of the job that matter for holds.
    pub(super) account: AccountUse,
}

impl ScheduledJob {
    fn from_record(record: &JobRecord) -> Self {
        Self {
            assignment: Assignment::Queued,
            created_at: record.created_at,
            group: record.group.clone(),
            epoch: record.epoch,
            is_link_lost: record.link == Some(Link::Lost),
            claim: FolderClaim::of_record(record),
            wait_reason: record.waiting.clone(),
            sharing: FolderSharing::of_recorded(&record.shared_with),
            account: AccountUse::of_record(record),
        }
    }
}

/// State of the scheduler. The cost of each input depends on the jobs of one agent, not on the number of agents.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    pub(super) jobs: BTreeMap<JobId, ScheduledJob>,
    /// Jobs whose cancellation was requested, each with the grace period in milliseconds.
    pub(super) requested_cancels: BTreeMap<JobId, u64>,
    /// Queued jobs that wait for other jobs.
    pub(super) dependencies: Dependencies,
    /// Queued jobs that wait only for a slot, without those whose cancellation was requested.
    pub(super) queue: JobQueue,
    /// Folders that are in use by jobs, and the jobs that wait for them.
    pub(super) folders: FolderGuard,
    /// Hold of the queue while the account can't use the model.
    pub(super) account_hold: AccountHold,
    /// Holds of single jobs.
    pub(super) own_holds: OwnHolds,
    /// True if Codex reaches the model through the relay, which sees the limits of the account itself.
    pub(super) has_gateway: bool,
    /// Jobs whose reason to wait may have changed.
    pub(super) rechecked_jobs: BTreeSet<JobId>,
    /// Jobs whose list of other jobs in their folder has changed.
    pub(super) changed_sharing: BTreeSet<JobId>,
    pub(super) agents: AgentTable,
    /// Slots for boxes; `None` if the jobs share the platform's container.
    pub(super) box_slots: Option<BoxSlots>,
    /// The agent whose container exited, and the failure cause of the jobs that were lost with the container.
    pub(super) exit_cause: Option<(AgentId, TerminationCause)>,
}

impl Scheduler {
    /// Creates a scheduler without jobs.
    pub(super) fn new(group_limits: GroupLimits, has_boxes: bool) -> Self {
        let box_slots = has_boxes.then(BoxSlots::default);
        Self { queue: JobQueue::new(group_limits), box_slots, ..Self::default() }
    }

    /// Updates a job from its record in the registry: adds a new job, or applies a change of a known job.
    pub(super) fn update_from_record(&mut self, record: &JobRecord) -> Vec<Action> {
        if record.state.is_final() {
            if record.error.as_ref().is_some_and(|error| error.kind == FailureKind::Refused) {
                self.remove_from_shared_folder(&record.job);
            }
            self.remove_job(&record.job);
            let state = DependencyState::of_record(record, record.result.is_none());
            return self.settle_dependency(&record.job, state);
        }
        if !self.jobs.contains_key(&record.job) {
            self.jobs.insert(record.job.clone(), ScheduledJob::from_record(record));
            if record.state == State::Queued {
                self.dependencies.add(record);
                self.enqueue(&record.job);
            }
        }
        let Some(job) = self.jobs.get_mut(&record.job) else { return Vec::new() };
        job.epoch = record.epoch;
        let mut actions = Vec::new();
        if record.state != State::Queued {
            // A record in another state names its agent, because `accepted` sets both.
            let agent: AgentId = record.agent.as_deref().unwrap_or_default().into();
            if matches!(job.assignment, Assignment::Offered(_))
                && !job.is_link_lost
                && !self.agents.is_connected(&agent)
            {
                job.is_link_lost = true;
                let body =
                    EventBody::LinkLost { reason: "the connection was lost when the job started".to_owned() };
                actions.push(Action::Record { job: record.job.clone(), body });
            }
            self.assign(&record.job, Assignment::Running(agent));
        }
        actions.extend(self.offer_queued());
        actions
    }

    /// Handles the state of a job that other jobs may wait for.
    pub(super) fn settle_dependency(&mut self, dependency: &JobId, state: DependencyState) -> Vec<Action> {
        let settled = self.dependencies.settle(dependency, state);
        for job in &settled.ready {
            self.enqueue(job);
        }
        let failed = settled.failed.into_iter();
        let mut actions: Vec<Action> = failed
            .map(|(job, reason)| Action::Record { job, body: dependency_failed_event(reason) })
            .collect();
        actions.extend(self.offer_queued());
        actions
    }

    /// Returns the jobs that this job waits for and that the scheduler does not know.
    pub(super) fn unknown_dependencies_of(&self, job: &JobId) -> Vec<JobId> {
        self.dependencies.dependencies_of(job).filter(|job| !self.jobs.contains_key(*job)).cloned().collect()
    }

    /// Returns all jobs that others wait for and that the scheduler does not know.
    pub(super) fn unknown_dependencies(&self) -> Vec<JobId> {
        self.dependencies.all_dependencies().filter(|job| !self.jobs.contains_key(*job)).cloned().collect()
    }

    /// Returns the jobs of an agent, running and offered.
    pub(super) fn jobs_of(&self, agent: &AgentId) -> BTreeSet<JobId> {
        self.agents.jobs(agent)
    }

    /// Returns true if there is no job.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Handles an agent's refusal of a job.
    pub(super) fn on_refused(
        &mut self,
        agent: &AgentId,
        id: &JobId,
        reason: String,
        is_full: bool,
    ) -> Vec<Action> {
        if self.assignment(id) != Some(&Assignment::Offered(agent.clone())) {
            return Vec::new();
        }
        if is_full {
            self.remove_from_shared_folder(id);
            self.assign(id, Assignment::Queued);
            self.agents.set_full(agent);
            let is_cancelled = self.requested_cancels.contains_key(id);
            let end = is_cancelled.then(|| Action::Record { job: id.clone(), body: cancelled_event() });
            return end.into_iter().chain(self.offer_queued()).collect();
        }
        vec![Action::Record { job: id.clone(), body: refused_event(reason) }]
    }

    /// Records whether an agent's machine has too little memory or disk space. Such an agent is offered no job.
    pub(super) fn set_low_resources(&mut self, agent: &AgentId, is_low: bool) -> Vec<Action> {
        self.agents.set_low_resources(agent, is_low);
        self.offer_queued()
    }

    /// Offers jobs again to agents that were full: such an agent may have ended a job that this relay does not know.
    pub(super) fn retry_full_agents(&mut self) -> Vec<Action> {
        self.agents.clear_reported_full();
        self.offer_queued()
    }

    /// Cancels a job. A repeated call is harmless. Returns `None` if the job is unknown or has ended.
    pub(super) fn cancel_job(&mut self, id: &JobId, grace_ms: u64) -> Option<Vec<Action>> {
        let job = self.jobs.get(id)?;
        if self.requested_cancels.insert(id.clone(), grace_ms) == Some(grace_ms) {
            return Some(Vec::new());
        }
        Some(match &job.assignment {
            Assignment::Queued => {
                self.dequeue(id);
                let mut actions = vec![Action::Record { job: id.clone(), body: cancelled_event() }];
                actions.extend(self.offer_queued());
                actions
            }
            Assignment::Offered(agent) | Assignment::Running(agent) if self.agents.is_connected(agent) => {
                vec![Action::Cancel { agent: agent.clone(), job: id.clone(), grace_ms }]
            }
            // No agent has confirmed the job. One that has it learns when it reconnects that the job has ended.
            Assignment::AwaitingBox(_) | Assignment::Offered(_) => {
                vec![Action::Record { job: id.clone(), body: cancelled_event() }]
            }
            // The cancel is sent once the agent has reconnected.
            Assignment::Running(_) => Vec::new(),
        })
    }

    /// Returns the assignment of a job; `None` if the job is unknown or has ended.
    pub(super) fn assignment(&self, id: &JobId) -> Option<&Assignment> {
        self.jobs.get(id).map(|job| &job.assignment)
    }

    /// Returns the agent that has accepted a job or was offered it.
    pub(super) fn agent_of(&self, id: &JobId) -> Option<&AgentId> {
        self.assignment(id).and_then(Assignment::agent)
    }

    /// Returns the jobs that agents have accepted.
    pub(super) fn running_jobs(&self) -> impl Iterator<Item = &JobId> {
        self.jobs.iter().filter(|(_, job)| matches!(job.assignment, Assignment::Running(_))).map(|(id, _)| id)
    }

    /// Returns every agent with jobs, connected or not.
    pub(super) fn agents_with_jobs(&self) -> Vec<AgentId> {
        self.agents.agents_with_jobs()
    }

    /// Returns true if all jobs are queued, so that no agent can be running one.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.values().all(|job| job.assignment == Assignment::Queued)
    }

    /// Offers queued jobs, oldest first, each to the agent with the most free slots. Records why the other jobs wait.
    pub(super) fn offer_queued(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(target) = self.next_target()
            && let Some(id) = self.queue.next_job()
        {
            // Another job in the same folder may have been offered since this job was queued.
            if self.blocker(&id).is_some() {
                self.recheck(&id);
                continue;
            }
            let start = match target {
                Target::Agent(agent) => {
                    self.assign(&id, Assignment::Offered(agent.clone()));
                    let epoch = self.jobs.get(&id).map_or(0, |job| job.epoch) + 1;
                    Some(Action::Start { agent, job: id, epoch })
                }
                Target::Box => self.next_box(&id).map(|next| {
                    self.assign(&id, Assignment::AwaitingBox(next.agent().as_str().into()));
                    Action::StartBox(next)
                }),
            };
            actions.extend(self.report_sharing());
            actions.extend(start);
        }
        actions.extend(self.report_sharing());
        for id in std::mem::take(&mut self.rechecked_jobs) {
            actions.extend(self.report_wait(&id));
            actions.extend(self.report_queued_hold(&id));
        }
        actions
    }

    /// Changes the assignment of a known job.
    pub(super) fn assign(&mut self, id: &JobId, assignment: Assignment) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.assignment == assignment {
            return;
        }
        let group = job.group.as_ref();
        if let Some(agent) = job.assignment.agent() {
            self.agents.release(agent, id, false);
            self.queue.free_slot(group);
        }
        if let Some(agent) = assignment.agent() {
            self.agents.assign(agent, id);
            self.queue.take_slot(group);
            // An agent that has the job was offered it after the job's dependencies had completed.
            self.dependencies.remove(id);
        }
        job.assignment = assignment;
        if job.assignment != Assignment::Queued {
            self.queue.remove(job.created_at, id, job.group.as_ref());
            if let Some(claim) = &job.claim {
                self.folders.add_holder(claim, &(job.created_at, id.clone()));
                self.add_to_shared_folder(id);
            }
        } else if self.requested_cancels.contains_key(id) {
            self.dequeue(id);
        } else {
            self.enqueue(id);
        }
        self.count_box(id);
    }

    fn remove_job(&mut self, id: &JobId) {
        self.requested_cancels.remove(id);
        self.own_holds.remove(id);
        self.dequeue(id);
        let Some(job) = self.jobs.remove(id) else { return };
        if let Some(agent) = job.assignment.agent() {
            self.agents.release(agent, id, true);
            self.queue.free_slot(job.group.as_ref());
        }
        self.count_box(id);
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
