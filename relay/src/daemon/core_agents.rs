//! The core's handling of agents: connections, disconnects, and what both mean for the platform.

use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::warnings::RELAY_SLEPT;
use tokio::time::Instant;

use super::core::{CONNECT_TIMEOUT, Core};
use super::disconnects::Due;
use super::message::{ConnectionHandle, ConnectionId};
use super::scheduler::{Action, AgentId};
use super::writer::Command;
use crate::files::atomic::Durability;
use crate::registry::lease::PlatformStatus;

impl Core {
    /// Handles an agent that has connected.
    pub(super) async fn connected(&mut self, connection: ConnectionHandle) {
        let agent: AgentId = connection.hello.agent.as_str().into();
        let held = connection.hello.jobs.iter().map(|progress| progress.job.clone()).collect();
        let capacity = usize::try_from(connection.hello.max_jobs).unwrap_or(usize::MAX);
        tracing::info!("agent {agent} ({}) is connected", connection.hello.version);
        if !self.agents.connect(agent.clone(), connection) {
            return;
        }
        self.next_try = None;
        let platform = self.lease.agent.get_or_insert_with(|| agent.to_string()).as_str().into();
        self.disconnects.connected(&agent, Some(&platform), Instant::now());
        self.publish_agent();
        self.container_connected(&agent, &held).await;
        let actions = self.scheduler.agent_up(&agent, capacity, &held);
        self.perform(actions).await;
        self.forget_exit();
        self.move_limits().await;
    }

    /// Handles a connection that has ended. Ignored if the agent has reconnected.
    pub(super) async fn connection_closed(&mut self, connection_id: ConnectionId, reason: &str) {
        let actions = self.drop_connection(&connection_id, reason);
        self.perform(actions).await;
        self.writer().send(Command::Left(connection_id)).await;
    }

    /// Removes an agent's connection; returns the actions that follow.
    pub(super) fn drop_connection(&mut self, connection_id: &ConnectionId, reason: &str) -> Vec<Action> {
        if !self.agents.disconnect(connection_id) {
            return Vec::new();
        }
        tracing::warn!("the connection of agent {} ended: {reason}", connection_id.agent);
        if self.agents.is_empty() {
            self.set_platform(PlatformStatus::Starting {
                detail: format!("waiting for the agent ({reason})"),
            });
            // A live agent reconnects by itself; after this pause the engine has to start it.
            self.next_try = (!self.is_going_down()).then(|| Instant::now() + CONNECT_TIMEOUT / 5);
        } else {
            self.publish_agent();
        }
        self.disconnects.disconnected(connection_id.agent.clone(), Instant::now());
        self.connection_ended(&connection_id.agent, reason)
    }

    /// Handles an agent's acceptance of a job.
    pub(super) async fn accepted(&mut self, connection_id: &ConnectionId, job: JobId, epoch: u32) {
        if self.agents.is_current(connection_id)
            && self.scheduler.agent_of(&job) == Some(&connection_id.agent)
        {
            tracing::debug!("{job} accepted in epoch {epoch}");
            self.writer().send(Command::DropEnv(job)).await;
        }
    }

    /// Expires work held by absent agents.
    pub(super) async fn expire_disconnected(&mut self) {
        let anybody = !self.agents.is_empty();
        let due = self.disconnects.due(|agent| self.agents.get(agent).is_some(), anybody, Instant::now());
        for due in due {
            let actions = match due {
                Due::GiveUp(agent) => self.scheduler.give_up(&agent),
                Due::Lost(agent) => {
                    tracing::error!("agent {agent} was replaced by another one: its jobs are lost");
                    self.app.tokens.revoke_agent(&agent);
                    self.lease.agent = self.agents.first().map(|connection| connection.hello.agent.clone());
                    self.publish_agent();
                    self.scheduler.agent_lost(&agent)
                }
            };
            self.perform(actions).await;
        }
    }

    /// Adds a warning to every running job: nothing was recorded for `time`.
    pub(super) async fn record_freeze(&mut self, time: Duration) {
        let seconds = time.as_secs();
        let message = format!("{RELAY_SLEPT}{seconds} s: it was stopped, or this machine slept");
        tracing::warn!("{message}");
        let jobs: Vec<JobId> = self.scheduler.running().cloned().collect();
        for job in jobs {
            let body = Box::new(EventBody::Warning { message: message.clone() });
            self.writer().send(Command::Own { job, body }).await;
        }
    }

    /// Writes the state of the platform's agent into the lease; while it is disconnected, that of another agent.
    pub(super) fn publish_agent(&mut self) {
        let platform = self.lease.agent.as_deref().and_then(|agent| self.agents.get(agent));
        let Some(connection) = platform.or_else(|| self.agents.first()) else { return };
        let hello = connection.hello.clone();
        self.lease.platform = PlatformStatus::Ready {
            agent: hello.agent,
            version: hello.version,
            max_jobs: hello.max_jobs,
            codex: hello.platform.codex,
            codex_problem: hello.platform.codex_problem,
            agents: self.agents.len(),
        };
        self.publish(Durability::Cached);
    }
}
