//! Jobs of agents that connect, disconnect or are lost. Pure.

use std::collections::BTreeSet;

use common::event::EventBody;
use common::ids::JobId;
use common::record::JobRecord;
use common::wire::TerminationCause;

use super::capacity::AgentId;
use super::job_end::{cancelled_event, lost_job_event};
use super::scheduler::{Action, Assignment, Scheduler};

impl Scheduler {
    /// Adds a job whose record could not be read until now. `names_job` returns true if the hello of an agent named the
    /// job.
    pub(super) fn add_late_record(
        &mut self,
        record: &JobRecord,
        names_job: impl Fn(&AgentId) -> bool,
    ) -> Vec<Action> {
        let is_new = !self.jobs.contains_key(&record.job);
        let mut actions = self.update_from_record(record);
        let Some(Assignment::Running(agent)) = self.assignment(&record.job).filter(|_| is_new).cloned()
        else {
            return actions;
        };
        let is_connected = self.agents.is_connected(&agent);
        if is_connected && names_job(&agent) {
            // The agent did not receive the durable state of the job, so it has to send a new hello.
            actions.push(Action::Reconnect { agent });
        } else if is_connected {
            actions.push(Action::Record {
                job: record.job.clone(),
                body: lost_job_event(self.exit_cause_of(&agent)),
            });
        }
        actions
    }

    /// Handles an agent that has connected. The jobs in `held_jobs` are assigned to that agent.
    pub(super) fn on_agent_connected(
        &mut self,
        agent: &AgentId,
        capacity: usize,
        held_jobs: &BTreeSet<JobId>,
    ) -> Vec<Action> {
        self.agents.connect(agent, capacity);
        let mut actions = Vec::new();
        let known = self.agents.jobs(agent);
        for id in known.union(held_jobs) {
            let is_box = self.is_box_agent(agent, id);
            let Some(job) = self.jobs.get_mut(id) else { continue };
            match (&job.assignment, held_jobs.contains(id)) {
                (Assignment::Running(_), false) => {
                    let body = lost_job_event(self.exit_cause_of(agent));
                    actions.push(Action::Record { job: id.clone(), body });
                }
                (Assignment::Running(_), true) if job.is_link_lost => {
                    job.is_link_lost = false;
                    let body = EventBody::LinkRestored { agent: agent.to_string() };
                    actions.push(Action::Record { job: id.clone(), body });
                }
                (Assignment::Queued | Assignment::AwaitingBox(_) | Assignment::Offered(_), true) => {
                    self.assign(id, Assignment::Offered(agent.clone()));
                }
                (Assignment::AwaitingBox(_), false) => actions.extend(self.start_in_box(id, agent)),
                (Assignment::Offered(_), false) if is_box => actions.extend(self.start_in_box(id, agent)),
                (Assignment::Offered(_), false) if self.requested_cancels.contains_key(id) => {
                    actions.push(Action::Record { job: id.clone(), body: cancelled_event() });
                }
                (Assignment::Offered(_), false) => self.assign(id, Assignment::Queued),
                (Assignment::Running(_), true) | (Assignment::Queued, false) => {}
            }
        }
        for job in held_jobs {
            if let Some(grace_ms) = self.requested_cancels.get(job) {
                let (agent, job) = (agent.clone(), job.clone());
                actions.push(Action::Cancel { agent, job, grace_ms: *grace_ms });
            }
        }
        actions.extend(self.offer_queued());
        actions
    }

    /// Handles the end of an agent's connection before its reason is known: the agent is offered no job from now on.
    pub(super) fn stop_offers(&mut self, agent: &AgentId) {
        self.agents.disconnect(agent);
    }

    /// Handles an agent that has disconnected. The agent's jobs go on, but their events do not arrive. Offered jobs
    /// stay assigned to it until [`Self::release_offers`]: it may run them, and no two agents may run the same job.
    pub(super) fn on_agent_disconnected(&mut self, agent: &AgentId, reason: &str) -> Vec<Action> {
        self.agents.disconnect(agent);
        let mut actions = Vec::new();
        for id in self.agents.jobs(agent) {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            match job.assignment {
                Assignment::Running(_) if !job.is_link_lost => {
                    job.is_link_lost = true;
                    let body = EventBody::LinkLost { reason: reason.to_owned() };
                    actions.push(Action::Record { job: id, body });
                }
                Assignment::Offered(_) if self.requested_cancels.contains_key(&id) => {
                    actions.push(Action::Record { job: id, body: cancelled_event() });
                }
                Assignment::Running(_)
                | Assignment::Offered(_)
                | Assignment::AwaitingBox(_)
                | Assignment::Queued => {}
            }
        }
        actions
    }

    /// Takes back the jobs offered to an agent that has been disconnected too long, and offers them to other agents.
    pub(super) fn release_offers(&mut self, agent: &AgentId) -> Vec<Action> {
        if !self.agents.is_connected(agent) {
            for id in self.agents.jobs(agent) {
                if self.assignment(&id).is_some_and(|assignment| matches!(assignment, Assignment::Offered(_)))
                {
                    self.assign(&id, Assignment::Queued);
                }
            }
        }
        self.offer_queued()
    }

    /// Ends the jobs of a disconnected agent that will never reconnect.
    pub(super) fn end_jobs_of_lost_agent(&mut self, agent: &AgentId) -> Vec<Action> {
        let mut actions = self.release_offers(agent);
        if !self.agents.is_connected(agent) {
            let body = lost_job_event(self.exit_cause_of(agent));
            let events =
                self.agents.jobs(agent).into_iter().map(|job| Action::Record { job, body: body.clone() });
            actions.extend(events);
        }
        actions
    }

    /// Sets the failure cause of the jobs that an agent lost with its container.
    pub(super) fn set_exit_cause(&mut self, cause: Option<(AgentId, TerminationCause)>) {
        self.exit_cause = cause;
    }

    fn exit_cause_of(&self, agent: &AgentId) -> Option<&TerminationCause> {
        self.exit_cause.as_ref().filter(|(lost_agent, _)| lost_agent == agent).map(|(_, cause)| cause)
    }
}
