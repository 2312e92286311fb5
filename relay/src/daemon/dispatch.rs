//! Which job runs next, and who has to be told what. Pure: inputs in, actions out.
//!
//! ```text
//!            seen                dispatched             accepted (record says starting)
//!  (record) ──────► Waiting ─────────────────► Offered ─────────────────────────────► Running ──► (ended: forgotten)
//!                     ▲   refused as busy, link lost │                                   │ link lost: stays
//!                     └──────────────────────────────┘                                   ▼
//! ```

use std::collections::{BTreeMap, BTreeSet};

use common::event::{EventBody, FailureKind, FinalState, JobError};
use common::ids::JobId;
use common::record::{JobRecord, Link, State};
use common::wire::Fate;
use jiff::Timestamp;

use super::fate;

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Send the job to the agent.
    Start { job: JobId, epoch: u32 },
    /// Tell the agent to end it.
    Cancel { job: JobId, grace_ms: u64 },
    /// Record something that the relay itself knows.
    Record { job: JobId, body: EventBody },
}

/// Where a job is between the registry and the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the queue.
    Waiting,
    /// Sent; the agent has not said that it has it.
    Offered,
    /// The agent has it.
    Running,
}

#[derive(Debug)]
struct Job {
    place: Place,
    created_at: Timestamp,
    epoch: u32,
    link: Option<Link>,
}

/// The state of the dispatch.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    jobs: BTreeMap<JobId, Job>,
    cancels: BTreeMap<JobId, u64>,
    /// How many jobs the connected agent runs at once; none without an agent.
    capacity: Option<usize>,
    /// The agent said it is full; nothing is offered until one of its jobs ends.
    full: bool,
    /// What the agent's room was before its container was paused.
    held: Option<usize>,
    /// How the agent's container died, if it did: the end of whatever it comes back without.
    fate: Option<Fate>,
}

impl Dispatch {
    /// A record as the registry holds it now: a new job, or a change of one that is known.
    pub(super) fn record(&mut self, record: &JobRecord) -> Vec<Action> {
        if record.state.is_final() {
            if self.jobs.remove(&record.job).is_some_and(|job| job.place != Place::Waiting) {
                self.full = false;
            }
            self.cancels.remove(&record.job);
            return self.fill();
        }
        let job = self.jobs.entry(record.job.clone()).or_insert(Job {
            place: Place::Waiting,
            created_at: record.created_at,
            epoch: record.epoch,
            link: record.link,
        });
        job.link = record.link;
        job.epoch = record.epoch;
        if record.state != State::Queued {
            job.place = Place::Running;
        }
        self.fill()
    }

    /// An agent is there; it holds `held`.
    pub(super) fn agent_up(&mut self, agent: &str, capacity: usize, held: &BTreeSet<JobId>) -> Vec<Action> {
        self.capacity = Some(capacity);
        self.held = None;
        self.full = false;
        let mut actions = Vec::new();
        for (id, job) in &mut self.jobs {
            let holds = held.contains(id);
            match (job.place, holds) {
                (Place::Running, false) => {
                    actions.push(Action::Record { job: id.clone(), body: forgotten(self.fate.as_ref()) });
                }
                (Place::Running, true) if job.link == Some(Link::Lost) => {
                    job.link = Some(Link::Connected);
                    let body = EventBody::LinkRestored { agent: agent.to_owned() };
                    actions.push(Action::Record { job: id.clone(), body });
                }
                (Place::Waiting | Place::Offered, true) => job.place = Place::Offered,
                (Place::Offered, false) => job.place = Place::Waiting,
                (Place::Running, true) | (Place::Waiting, false) => {}
            }
        }
        for (job, grace_ms) in &self.cancels {
            if held.contains(job) {
                actions.push(Action::Cancel { job: job.clone(), grace_ms: *grace_ms });
            }
        }
        actions.extend(self.fill());
        actions
    }

    /// The agent is gone. Its jobs go on; only the news of them stops.
    pub(super) fn agent_down(&mut self, reason: &str) -> Vec<Action> {
        self.capacity = None;
        self.held = None;
        let mut actions = Vec::new();
        for (id, job) in &mut self.jobs {
            match job.place {
                Place::Offered => job.place = Place::Waiting,
                Place::Running if job.link != Some(Link::Lost) => {
                    job.link = Some(Link::Lost);
                    let body = EventBody::LinkLost { reason: reason.to_owned() };
                    actions.push(Action::Record { job: id.clone(), body });
                }
                Place::Running | Place::Waiting => {}
            }
        }
        actions
    }

    /// The agent is frozen, and its connection with it: nothing is offered, and nothing heard.
    pub(super) fn hold(&mut self, reason: &str) -> Vec<Action> {
        self.held = self.capacity.take().or(self.held);
        let lost = |job: &mut Job| {
            let body = EventBody::LinkLost { reason: reason.to_owned() };
            (job.link.replace(Link::Lost) != Some(Link::Lost)).then_some(body)
        };
        self.tell_running(lost)
    }

    /// It goes on, on the same connection.
    pub(super) fn release(&mut self, agent: &str) -> Vec<Action> {
        self.capacity = self.held.take().or(self.capacity);
        let back = |job: &mut Job| {
            let body = EventBody::LinkRestored { agent: agent.to_owned() };
            (job.link.replace(Link::Connected) == Some(Link::Lost)).then_some(body)
        };
        let mut actions = self.tell_running(back);
        actions.extend(self.fill());
        actions
    }

    fn tell_running(&mut self, tell: impl Fn(&mut Job) -> Option<EventBody>) -> Vec<Action> {
        let running = self.jobs.iter_mut().filter(|(_, job)| job.place == Place::Running);
        running
            .filter_map(|(id, job)| tell(job).map(|body| Action::Record { job: id.clone(), body }))
            .collect()
    }

    /// How jobs end that the agent comes back without.
    pub(super) fn share_fate(&mut self, fate: Option<Fate>) {
        self.fate = fate;
    }

    /// Jobs that an agent has, or may have.
    pub(super) fn with_agent(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.iter().filter(|(_, job)| job.place != Place::Waiting).map(|(id, _)| id.clone())
    }

    /// Whether there is no job at all.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The agent would not take a job.
    pub(super) fn refused(&mut self, id: &JobId, reason: String, busy: bool) -> Vec<Action> {
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.place == Place::Offered) else {
            return Vec::new();
        };
        if busy {
            job.place = Place::Waiting;
            self.full = true;
            return Vec::new();
        }
        vec![Action::Record { job: id.clone(), body: refusal(reason) }]
    }

    /// Somebody wants a job ended. Repeating it is harmless. Returns `None` when there is nothing to end.
    pub(super) fn cancel(&mut self, id: &JobId, grace_ms: u64) -> Option<Vec<Action>> {
        let place = self.jobs.get(id)?.place;
        if self.cancels.insert(id.clone(), grace_ms) == Some(grace_ms) {
            return Some(Vec::new());
        }
        Some(match (place, self.capacity) {
            (Place::Waiting, _) => vec![Action::Record { job: id.clone(), body: cancelled() }],
            (Place::Offered | Place::Running, Some(_)) => vec![Action::Cancel { job: id.clone(), grace_ms }],
            // Told when the agent is back.
            (Place::Offered | Place::Running, None) => Vec::new(),
        })
    }

    /// Where a job is; `None` for one that is unknown or has ended.
    pub(super) fn place(&self, id: &JobId) -> Option<Place> {
        self.jobs.get(id).map(|job| job.place)
    }

    /// Whether an agent may be running anything.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.values().all(|job| job.place == Place::Waiting)
    }

    /// Offers waiting jobs, first come first served, as long as the agent has room.
    fn fill(&mut self) -> Vec<Action> {
        let Some(capacity) = self.capacity.filter(|_| !self.full) else { return Vec::new() };
        let busy = self.jobs.values().filter(|job| job.place != Place::Waiting).count();
        let mut waiting: Vec<(Timestamp, JobId)> = self
            .jobs
            .iter()
            .filter(|(id, job)| job.place == Place::Waiting && !self.cancels.contains_key(*id))
            .map(|(id, job)| (job.created_at, id.clone()))
            .collect();
        waiting.sort();
        waiting.truncate(capacity.saturating_sub(busy));
        let mut actions = Vec::new();
        for (_, id) in waiting {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.place = Place::Offered;
                actions.push(Action::Start { job: id, epoch: job.epoch + 1 });
            }
        }
        actions
    }
}

/// The end of a job that nobody has started.
fn cancelled() -> EventBody {
    EventBody::Finished { state: FinalState::Cancelled, error: None, exit_code: None, changes: None }
}

/// The end of a job that can't be started.
pub(super) fn refusal(reason: String) -> EventBody {
    failed(FailureKind::Refused, reason)
}

/// The end of a job whose agent has come back without it.
fn forgotten(fate: Option<&Fate>) -> EventBody {
    if let Some(fate) = fate {
        return fate::end(fate, "and the agent's state is gone with it");
    }
    failed(
        FailureKind::AgentLost,
        "the agent came back without this job: its state was lost, and its worker with it; launch it again"
            .to_owned(),
    )
}

fn failed(kind: FailureKind, message: String) -> EventBody {
    EventBody::Finished {
        state: FinalState::Failed,
        error: Some(JobError { kind, message, step: None }),
        exit_code: None,
        changes: None,
    }
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
