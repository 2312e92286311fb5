//! Agents: connections, disconnects, answers, and what they mean for the platform.

use std::collections::BTreeSet;
use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::warnings::RELAY_SLEPT;
#[cfg(feature = "internals")]
use tokio::time::Instant;

use super::connections::{Connection, ConnectionId, Connections};
use super::disconnects::{DisconnectTracker, Due};
use super::effect::Effect;
use super::handle::Core;
use super::platform::CONNECT_TIMEOUT;
use super::scheduler::{Action, AgentId};
use super::turn::Turn;
use crate::registry::lease::PlatformStatus;

/// Agents as seen from their connections.
#[derive(Debug, Default)]
pub(super) struct AgentLinks {
    /// Connected agents.
    pub(super) connections: Connections,
    /// Timeouts of disconnected agents.
    pub(super) disconnects: DisconnectTracker,
    /// Agents that were replaced by another one. Their tokens are revoked, so none of them reconnects.
    pub(super) lost: BTreeSet<AgentId>,
}

impl Core {
    /// Handles an agent that asks for admission.
    pub(super) fn register(&mut self, agent: &AgentId, turn: &mut Turn) {
        let number = self.agents.connections.register(agent);
        let admission = number.map(|number| (number, self.termination_cause(agent)));
        turn.push(Effect::Admit(admission));
    }

    /// Handles an agent that has connected.
    pub(super) fn connected(&mut self, connection: Connection, turn: &mut Turn) {
        let agent: AgentId = connection.hello.agent.as_str().into();
        let held = connection.hello.jobs.iter().map(|progress| progress.job.clone()).collect();
        let capacity = usize::try_from(connection.hello.max_jobs).unwrap_or(usize::MAX);
        tracing::info!("agent {agent} ({}) is connected", connection.hello.version);
        let number = connection.number;
        let older = self.agents.connections.get(&agent).map(|older| older.number);
        if !self.agents.connections.connect(agent.clone(), connection) {
            return turn.push(Effect::Close(number));
        }
        turn.effects.extend(older.map(Effect::Close));
        self.platform.next_try = None;
        let platform = self.platform.lease.agent.get_or_insert_with(|| agent.to_string()).as_str().into();
        self.agents.disconnects.connected(&agent, Some(&platform), turn.now);
        self.publish_agent(turn);
        self.container_connected(&agent, &held, turn);
        let actions = self.scheduler.agent_up(&agent, capacity, &held);
        self.act(actions, turn);
        self.forget_exit(turn);
        self.inspect_limits(turn);
    }

    /// Handles a connection that has ended. Ignored if the agent has reconnected.
    pub(super) fn connection_closed(&mut self, connection_id: ConnectionId, reason: &str, turn: &mut Turn) {
        let actions = self.drop_connection(&connection_id, reason, turn);
        self.act(actions, turn);
        turn.push(Effect::Left(connection_id));
    }

    /// Removes an agent's connection; returns the actions that follow.
    pub(super) fn drop_connection(
        &mut self,
        connection_id: &ConnectionId,
        reason: &str,
        turn: &mut Turn,
    ) -> Vec<Action> {
        if !self.agents.connections.disconnect(connection_id) {
            return Vec::new();
        }
        turn.push(Effect::Close(connection_id.number));
        tracing::warn!("the connection of agent {} ended: {reason}", connection_id.agent);
        if self.agents.connections.is_empty() {
            let detail = format!("waiting for the agent ({reason})");
            self.set_platform(PlatformStatus::Starting { detail }, turn);
            // A live agent reconnects by itself; after this pause the engine has to start it.
            self.platform.next_try = (!self.is_going_down()).then(|| turn.now + CONNECT_TIMEOUT / 5);
        } else {
            self.publish_agent(turn);
        }
        self.agents.disconnects.disconnected(connection_id.agent.clone(), turn.now);
        self.connection_ended(&connection_id.agent, reason, turn.now)
    }

    /// Handles an agent's acceptance of a job.
    pub(super) fn accepted(&self, connection_id: &ConnectionId, job: JobId, epoch: u32, turn: &mut Turn) {
        if self.agents.connections.is_current(connection_id)
            && self.scheduler.agent_of(&job) == Some(&connection_id.agent)
        {
            tracing::debug!("{job} accepted as run {epoch}");
            turn.push(Effect::DropEnv(job));
        }
    }

    /// Handles an agent's refusal of a job.
    pub(super) fn refused(
        &mut self,
        connection_id: &ConnectionId,
        job: &JobId,
        reason: String,
        busy: bool,
        turn: &mut Turn,
    ) {
        if self.agents.connections.is_current(connection_id) {
            let actions = self.scheduler.refused(&connection_id.agent, job, reason, busy);
            self.act(actions, turn);
        }
    }

    /// Expires work held by absent agents.
    pub(super) fn expire_disconnected(&mut self, turn: &mut Turn) {
        let connections = &self.agents.connections;
        let is_connected = |agent: &str| connections.get(agent).is_some();
        let due = self.agents.disconnects.due(is_connected, !connections.is_empty(), turn.now);
        for due in due {
            let actions = match due {
                Due::GiveUp(agent) => self.scheduler.give_up(&agent),
                Due::Lost(agent) => {
                    tracing::error!("agent {agent} was replaced by another one: its jobs are lost");
                    turn.push(Effect::RevokeAgent(agent.clone()));
                    self.agents.lost.insert(agent.clone());
                    let first = self.agents.connections.first();
                    self.platform.lease.agent = first.map(|connection| connection.hello.agent.clone());
                    self.publish_agent(turn);
                    self.scheduler.agent_lost(&agent)
                }
            };
            self.act(actions, turn);
        }
    }

    /// Adds a warning to every running job: nothing was recorded for `time`.
    pub(super) fn record_freeze(&self, time: Duration, turn: &mut Turn) {
        let seconds = time.as_secs();
        let message = format!("{RELAY_SLEPT}{seconds} s: it was stopped, or this machine slept");
        tracing::warn!("{message}");
        for job in self.scheduler.running() {
            let body = EventBody::Warning { message: message.clone() };
            turn.push(Effect::Record { job: job.clone(), body });
        }
    }

    /// Ends the jobs of all disconnected agents: in the simulation they belong to one platform, whose state is gone.
    #[cfg(feature = "internals")]
    pub(in crate::daemon) fn end_absent_agents(&mut self, now: Instant) -> Vec<Effect> {
        let mut turn = Turn::new(now);
        for agent in self.scheduler.agents_with_jobs() {
            if self.agents.connections.get(&agent).is_none() {
                let actions = self.scheduler.agent_lost(&agent);
                self.act(actions, &mut turn);
            }
        }
        turn.effects
    }

    #[cfg(feature = "internals")]
    pub(in crate::daemon) fn is_connected(&self, agent: &str) -> bool {
        self.agents.connections.get(agent).is_some()
    }
}
