//! Slots for jobs with a box each, a container of their own. Pure.
//!
//! ```text
//!  Queued ──slot free──► AwaitingBox ──agent of the box connects──► Offered ──accepted──► Running
//!                            └── the box can't be started: the job ends
//! ```
//!
//! The platform's own agent runs no jobs then. It says how many boxes there may be, and whether its machine has
//! memory and disk space for another one.

use common::ids::JobId;

use super::capacity::AgentId;
use super::capacity::{BoxSlots, Target};
use super::job_end::cancelled_event;
use super::scheduler::{Action, Assignment, Scheduler};
use crate::job_box::BoxId;

impl Scheduler {
    /// Returns where the next job can run, if there is a free slot.
    pub(super) fn next_target(&self) -> Option<Target> {
        let is_box_free = self.box_slots.as_ref().is_some_and(|slots| {
            let host = slots.host.as_ref().filter(|_| slots.are_boxes_known);
            host.is_some_and(|(host, limit)| slots.jobs.len() < *limit && self.agents.is_usable(host))
        });
        if is_box_free { Some(Target::Box) } else { self.agents.least_loaded().map(Target::Agent) }
    }

    /// Changes the slots for boxes, if jobs get boxes, and offers jobs.
    pub(super) fn change_box_slots(&mut self, change: impl FnOnce(&mut BoxSlots)) -> Vec<Action> {
        let Some(slots) = &mut self.box_slots else { return Vec::new() };
        change(slots);
        self.offer_queued()
    }

    /// Returns the box for the next run of a job.
    pub(super) fn next_box(&self, id: &JobId) -> Option<BoxId> {
        let job = self.jobs.get(id)?;
        Some(BoxId::of_run(id, job.created_at, job.epoch + 1))
    }

    /// Returns true if this is the agent in the box of the job's current or next run.
    pub(super) fn is_box_agent(&self, agent: &AgentId, id: &JobId) -> bool {
        let Some(job) = self.jobs.get(id) else { return false };
        [job.epoch, job.epoch + 1]
            .into_iter()
            .any(|epoch| BoxId::of_run(id, job.created_at, epoch).agent() == **agent)
    }

    /// Returns true if an agent is the agent in the box of one of its jobs.
    pub(super) fn is_box(&self, agent: &AgentId) -> bool {
        self.jobs_of(agent).iter().any(|job| self.is_box_agent(agent, job))
    }

    /// Returns true if a job has a box or awaits one.
    pub(super) fn has_box(&self, id: &JobId) -> bool {
        self.agent_of(id).is_some_and(|agent| self.is_box_agent(agent, id))
    }

    /// Counts a job whose assignment or hold has changed. A job that pauses in its thread frees its slot, and takes it
    /// again when it goes on, even if there are more jobs than slots then.
    pub(super) fn count_box(&mut self, id: &JobId) {
        let uses_slot = self.has_box(id) && !self.is_paused(id);
        if let Some(slots) = &mut self.box_slots {
            if uses_slot {
                slots.jobs.insert(id.clone());
            } else {
                slots.jobs.remove(id);
            }
        }
    }

    /// Lets a queued job await a box that exists already. Returns false if the box is not one for the job's next run.
    pub(super) fn adopt_box(&mut self, found: &BoxId) -> bool {
        let id = found.job();
        let is_next = self.next_box(id).as_ref() == Some(found);
        let is_queued = self.assignment(id) == Some(&Assignment::Queued);
        let is_adopted = is_next && is_queued && !self.requested_cancels.contains_key(id);
        if is_adopted {
            self.assign(id, Assignment::AwaitingBox(found.agent().as_str().into()));
        }
        is_adopted
    }

    /// Offers a job to the agent of its box, if the job awaits the box and the agent is connected.
    pub(super) fn offer_to_box(&mut self, id: &JobId) -> Vec<Action> {
        match self.assignment(id) {
            Some(Assignment::AwaitingBox(agent)) if self.agents.is_connected(agent) => {
                let agent = agent.clone();
                self.start_in_box(id, &agent)
            }
            _ => Vec::new(),
        }
    }

    /// Sends a job to the connected agent of its box, or ends the job if its cancellation was requested.
    pub(super) fn start_in_box(&mut self, id: &JobId, agent: &AgentId) -> Vec<Action> {
        if self.requested_cancels.contains_key(id) {
            return vec![Action::Record { job: id.clone(), body: cancelled_event() }];
        }
        self.assign(id, Assignment::Offered(agent.clone()));
        let epoch = self.jobs.get(id).map_or(0, |job| job.epoch) + 1;
        vec![Action::Start { agent: agent.clone(), job: id.clone(), epoch }]
    }

    /// Queues the jobs again that await a box, because no box is started any more.
    pub(super) fn give_up_awaited_boxes(&mut self) {
        if let Some(slots) = &mut self.box_slots {
            slots.are_boxes_known = false;
        }
        let awaiting = |job: &&JobId| matches!(self.assignment(job), Some(Assignment::AwaitingBox(_)));
        for id in self.jobs.keys().filter(awaiting).cloned().collect::<Vec<_>>() {
            self.assign(&id, Assignment::Queued);
        }
    }
}
