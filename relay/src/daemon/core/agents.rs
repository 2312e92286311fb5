//! Handles agents that connect, disconnect, and accept or refuse jobs.

use std::collections::BTreeSet;
use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::warnings::RELAY_WAS_STOPPED;

use super::capacity::AgentId;
use super::connections::{Connection, ConnectionId, Connections};
use super::disconnects::{DisconnectTracker, ExpiredTimeout};
use super::effect::Effect;
use super::handle::Core;
use super::input_context::InputContext;
use super::platform::CONNECT_TIMEOUT;
use super::scheduler::Action;
use crate::registry::lease::PlatformStatus;
use crate::state_dir::tokens::HolderKind;

#[derive(Debug, Default)]
pub(super) struct AgentConnections {
    /// Connected agents.
    pub(super) connections: Connections,
    /// Timeouts of disconnected agents.
    pub(super) disconnects: DisconnectTracker,
}

impl Core {
    /// Handles an agent that asks for admission.
    pub(super) fn on_register(&mut self, agent: &AgentId, context: &mut InputContext) {
        let admitted = self.agents.connections.check_admission(agent);
        let admission = admitted.map(|()| self.termination_cause_for(agent));
        context.push(Effect::Admit(admission));
    }

    /// Handles an agent that has connected.
    pub(super) fn on_connected(&mut self, connection: Connection, context: &mut InputContext) {
        let agent: AgentId = connection.hello.agent.as_str().into();
        let held_jobs: BTreeSet<JobId> =
            connection.hello.jobs.iter().map(|progress| progress.job.clone()).collect();
        let max_jobs = connection.hello.max_jobs;
        tracing::info!("agent {agent} ({}) is connected", connection.hello.version);
        let number = connection.number;
        let holder = connection.holder;
        let older = self.agents.connections.get_connection(&agent).map(|older| older.number);
        if !self.agents.connections.connect(agent.clone(), connection) {
            return context.push(Effect::Close(number));
        }
        context.effects.extend(older.map(Effect::Close));
        self.agents.disconnects.on_connect(&agent, holder == HolderKind::Platform, context.now);
        if holder == HolderKind::Box {
            self.on_box_connected(&agent, held_jobs.into_iter(), context);
            self.continue_held_jobs(&agent, context);
            return self.inspect_limits(context);
        }
        self.platform.next_attempt_at = None;
        self.platform.lease.agent.get_or_insert_with(|| agent.to_string());
        self.publish_agent(context);
        self.on_platform_agent_connected(&agent, &held_jobs, context);
        let vitals = self
            .agents
            .connections
            .get_connection(&agent)
            .and_then(|connection| connection.hello.vitals.as_deref().copied());
        self.store_platform_vitals(&agent, vitals);
        self.connect_to_scheduler(&agent, max_jobs, &held_jobs, context);
        self.continue_held_jobs(&agent, context);
        self.forget_exit(context);
        self.inspect_limits(context);
    }

    /// Lets the scheduler use an agent with this many slots. If each job gets a box, the slots of the platform's agent
    /// are slots for boxes.
    pub(super) fn connect_to_scheduler(
        &mut self,
        agent: &AgentId,
        max_jobs: u32,
        held_jobs: &BTreeSet<JobId>,
        context: &mut InputContext,
    ) {
        let mut capacity = usize::try_from(max_jobs).unwrap_or(usize::MAX);
        let is_low = self.shortage(agent).is_some();
        let mut actions = self.scheduler.set_low_resources(agent, is_low);
        let connection = self.agents.connections.get_connection(agent);
        let is_platform = connection.is_some_and(|connection| connection.holder == HolderKind::Platform);
        if self.scheduler.box_slots.is_some() && is_platform {
            actions.extend(
                self.scheduler.change_box_slots(|slots| slots.host = Some((agent.clone(), capacity))),
            );
            capacity = 0;
        }
        actions.extend(self.scheduler.on_agent_connected(agent, capacity, held_jobs));
        self.execute_actions(actions, context);
    }

    /// Handles a connection that has ended. Ignored if the agent has reconnected.
    pub(super) fn on_connection_closed(
        &mut self,
        connection_id: ConnectionId,
        reason: &str,
        context: &mut InputContext,
    ) {
        let actions = self.drop_connection(&connection_id, reason, context);
        self.execute_actions(actions, context);
        context.push(Effect::RemoveConnection(connection_id));
    }

    /// Removes the connection of an agent; returns the actions that follow.
    pub(super) fn drop_connection(
        &mut self,
        connection_id: &ConnectionId,
        reason: &str,
        context: &mut InputContext,
    ) -> Vec<Action> {
        let agent = &connection_id.agent;
        let is_box =
            self.agents.connections.get_connection(agent).is_some_and(|c| c.holder == HolderKind::Box);
        if !self.agents.connections.disconnect(connection_id) {
            return Vec::new();
        }
        context.push(Effect::Close(connection_id.number));
        if is_box {
            self.agents.disconnects.on_disconnect(agent.clone(), context.now);
            self.on_box_disconnected(agent, context.now);
            return self.scheduler.on_agent_disconnected(agent, reason);
        }
        tracing::warn!("the connection of agent {} ended: {reason}", connection_id.agent);
        if self.agents.connections.has_shared_agent() {
            self.publish_agent(context);
        } else {
            let detail = format!("waiting for the agent ({reason})");
            self.publish_platform_status(PlatformStatus::Starting { detail }, context);
            // A live agent reconnects by itself. After this pause the engine has to start one.
            self.platform.next_attempt_at =
                (!self.is_stopping_platform()).then(|| context.now + CONNECT_TIMEOUT / 5);
        }
        self.agents.disconnects.on_disconnect(connection_id.agent.clone(), context.now);
        self.on_agent_connection_end(&connection_id.agent, reason, context.now)
    }

    /// Handles an agent's acceptance of a job.
    pub(super) fn on_accepted(
        &self,
        connection_id: &ConnectionId,
        job: JobId,
        epoch: u32,
        context: &mut InputContext,
    ) {
        if self.agents.connections.is_current(connection_id)
            && self.scheduler.agent_of(&job) == Some(&connection_id.agent)
        {
            tracing::debug!("{job} accepted as run {epoch}");
            context.push(Effect::RemoveEnvValues(job));
        }
    }

    /// Handles an agent's refusal of a job.
    pub(super) fn on_refused(
        &mut self,
        connection_id: &ConnectionId,
        job: &JobId,
        reason: String,
        is_full: bool,
        context: &mut InputContext,
    ) {
        if self.agents.connections.is_current(connection_id) {
            let actions = self.scheduler.on_refused(&connection_id.agent, job, reason, is_full);
            self.execute_actions(actions, context);
        }
    }

    /// Handles the timeouts of disconnected agents that have expired.
    pub(super) fn expire_disconnected(&mut self, context: &mut InputContext) {
        for timeout in self.agents.disconnects.take_expired(context.now) {
            match timeout {
                ExpiredTimeout::ReleaseOffers(agent) => {
                    let actions = self.scheduler.release_offers(&agent);
                    self.execute_actions(actions, context);
                }
                ExpiredTimeout::FindRevoked => {
                    let mut absent_agents = self.scheduler.agents_with_jobs();
                    absent_agents.retain(|agent| self.is_absent(agent) && !self.scheduler.is_box(agent));
                    if !absent_agents.is_empty() {
                        context.push(Effect::FindRevoked(absent_agents));
                    }
                }
            }
        }
    }

    /// Ends the jobs of agents that have no valid token: another agent has replaced them, and their state is gone.
    pub(super) fn on_revoked(&mut self, agents: Vec<AgentId>, context: &mut InputContext) {
        for agent in agents {
            if !self.is_absent(&agent) {
                continue;
            }
            tracing::error!("agent {agent} was replaced by another one: its jobs are lost");
            if self.platform.lease.agent.as_deref() == Some(&*agent) {
                let first = self.agents.connections.shared_agents().next();
                self.platform.lease.agent = first.map(|connection| connection.hello.agent.clone());
                self.publish_agent(context);
            }
            let actions = self.scheduler.end_jobs_of_lost_agent(&agent);
            self.execute_actions(actions, context);
        }
    }

    /// Returns true if an agent has been disconnected for so long that a live agent would have reconnected.
    fn is_absent(&self, agent: &AgentId) -> bool {
        self.agents.connections.get_connection(agent).is_none() && !self.agents.disconnects.is_awaited(agent)
    }

    /// Adds a warning to every running job that nothing was recorded for `time`, because this process did not run.
    pub(super) fn warn_of_freeze(&self, time: Duration, context: &mut InputContext) {
        let seconds = time.as_secs();
        let message = format!("{RELAY_WAS_STOPPED}{seconds} s: it was stopped, or this machine slept");
        tracing::warn!("{message}");
        for job in self.scheduler.running_jobs() {
            let body = EventBody::Warning { message: message.clone() };
            context.push(Effect::Record { job: job.clone(), body });
        }
    }
}
