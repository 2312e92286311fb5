//! Changes of boxes that the engine reports, and boxes that an earlier relay has left.

use std::time::Duration;

use tokio::time::Instant;

use super::boxes::{JobBox, Stage};
use super::capacity::AgentId;
use super::container_exit;
use super::handle::Core;
use super::input::BoxChange;
use super::input_context::InputContext;
use super::scheduler::{Action, Assignment};
use crate::container_state::{ContainerExit, ContainerState};
use crate::job_box::{BoxId, FoundBox};

/// Maximum time between the exit of an agent that has delivered everything and the recorded end of its job.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

impl Core {
    /// Handles an observed change of a box.
    pub(super) fn on_box_changed(&mut self, agent: &AgentId, change: BoxChange, context: &mut InputContext) {
        let is_stopping = self.is_stopping_platform();
        let Some(job_box) = self.boxes.boxes.get_mut(agent) else { return };
        if is_stopping || matches!(job_box.stage, Stage::Removing | Stage::NotRemoved { .. }) {
            return;
        }
        let job = job_box.id.job();
        let last_exit = job_box.exit.as_ref();
        let (exit, exists) = match change {
            BoxChange::Exited(exit) => (exit, true),
            // A container that is removed while it runs exits before.
            BoxChange::Removed => {
                let removed = || ContainerExit::from_state(&ContainerState::Absent);
                (last_exit.cloned().unwrap_or_else(removed), false)
            }
        };
        let is_repeated =
            last_exit.is_some_and(|last| last.finished_at.is_some() && last.finished_at == exit.finished_at);
        if is_repeated && exists {
            return;
        }
        tracing::info!("container of {job}: {}", container_exit::describe_box_exit(&exit));
        let is_orderly = exit.exit_code == Some(0);
        job_box.exit = Some(exit);
        if job_box.stage == Stage::Starting {
            // The attempt to start a box that was removed fails by itself.
            job_box.has_exited_early |= exists;
        } else if !job_box.is_wanted {
            self.remove_box(agent, context);
        } else if is_orderly && exists && matches!(job_box.stage, Stage::Running { .. }) {
            job_box.stage = Stage::Exited { until: context.now + EXIT_TIMEOUT };
        } else {
            self.on_box_death(agent, exists, context);
        }
    }

    /// Handles a box that exited before the end of its job was recorded.
    pub(super) fn on_box_death(&mut self, agent: &AgentId, exists: bool, context: &mut InputContext) {
        let Some(job_box) = self.boxes.boxes.get_mut(agent) else { return };
        let exit = job_box.exit.clone().unwrap_or_else(|| ContainerExit::from_exit_code(None, false));
        let reason = container_exit::describe_box_exit(&exit);
        let job = job_box.id.job().clone();
        match self.scheduler.assignment(&job) {
            Some(Assignment::Running(owner)) if owner == agent => {}
            Some(assignment) if assignment.agent() == Some(agent) => {
                return self.on_box_failure(agent, &reason.into(), context);
            }
            _ => return self.remove_box(agent, context),
        }
        let can_deliver = exists && !job_box.was_restarted;
        if can_deliver {
            job_box.was_restarted = true;
            Self::request_start(job_box, context);
        }
        let mut actions = self.scheduler.on_agent_disconnected(agent, &reason);
        if !can_deliver {
            let cause = container_exit::box_termination_cause(&exit);
            let body = container_exit::final_event(&cause, "and its agent's state is lost");
            actions.push(Action::Record { job, body });
        }
        self.execute_actions(actions, context);
    }

    /// Compares the boxes that exist on the engine with the known ones. They were listed at `asked_at` or later.
    pub(super) fn on_boxes_listed(
        &mut self,
        found: Vec<FoundBox>,
        asked_at: Instant,
        context: &mut InputContext,
    ) {
        if self.is_stopping_platform() {
            return;
        }
        let mut missing: Vec<AgentId> = self.boxes.boxes.keys().cloned().collect();
        for FoundBox { id, state } in found {
            let agent: AgentId = id.agent().as_str().into();
            missing.retain(|known| *known != agent);
            match self.boxes.boxes.get(&agent) {
                None => self.adopt_box(id, &agent, &state, context),
                Some(known)
                    if known.started_at < asked_at && matches!(known.stage, Stage::Running { .. }) =>
                {
                    if let ContainerState::Exited { .. } = state {
                        let exit = ContainerExit::from_state(&state);
                        self.on_box_changed(&agent, BoxChange::Exited(exit), context);
                    }
                }
                Some(_) => {}
            }
        }
        for agent in missing {
            let is_gone = self.boxes.boxes.get(&agent).is_some_and(|known| {
                known.started_at < asked_at && matches!(known.stage, Stage::Running { .. })
            });
            if is_gone {
                self.on_box_changed(&agent, BoxChange::Removed, context);
            }
        }
        self.end_jobs_without_box(context);
        let actions = self.scheduler.change_box_slots(|slots| slots.are_boxes_known = true);
        self.execute_actions(actions, context);
    }

    /// Adopts a box of an unfinished job, which an earlier relay has started. Removes any other box.
    fn adopt_box(&mut self, id: BoxId, agent: &AgentId, state: &ContainerState, context: &mut InputContext) {
        let job = id.job().clone();
        if self.scheduler.adopt_box(&id) {
            return self.start_box(id, context);
        }
        let is_wanted = self.scheduler.agent_of(&job) == Some(agent);
        let exit = matches!(state, ContainerState::Exited { .. }).then(|| ContainerExit::from_state(state));
        // The agent of a running job may stay away for long, as after a loss of the network.
        let job_box = JobBox::new(id, Stage::Running { deadline: None }, context.now);
        self.boxes.boxes.insert(agent.clone(), job_box);
        if !is_wanted {
            tracing::info!("the container of {job} belongs to no unfinished job: removed");
            self.remove_box(agent, context);
        } else if let Some(exit) = exit {
            self.on_box_changed(agent, BoxChange::Exited(exit), context);
        }
    }

    /// Ends the running jobs whose boxes were removed while no relay was running.
    fn end_jobs_without_box(&mut self, context: &mut InputContext) {
        let exit = ContainerExit::from_state(&ContainerState::Absent);
        let cause = container_exit::box_termination_cause(&exit);
        let mut actions = Vec::new();
        for job in self.scheduler.running_jobs() {
            let Some(agent) = self.scheduler.agent_of(job).filter(|_| self.scheduler.has_box(job)) else {
                continue;
            };
            let is_connected = self.agents.connections.get_connection(agent).is_some();
            if !is_connected && !self.boxes.boxes.contains_key(agent) {
                let body = container_exit::final_event(&cause, "while no relay was running");
                actions.push(Action::Record { job: job.clone(), body });
            }
        }
        self.execute_actions(actions, context);
    }
}
