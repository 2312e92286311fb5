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
use crate::registry::atomic::Durability;
use crate::registry::lease::PlatformStatus;

impl Core {
    /// Handles an agent that has connected.
    pub(super) async fn connected(&mut self, session: ConnectionHandle) {
        let agent: AgentId = session.hello.agent.as_str().into();
        let held = session.hello.jobs.iter().map(|progress| progress.job.clone()).collect();
        let capacity = usize::try_from(session.hello.max_jobs).unwrap_or(usize::MAX);
        tracing::info!("agent {agent} ({}) is connected", session.hello.version);
        if !self.agents.connect(agent.clone(), session) {
            return;
        }
        self.next_try = None;
        let platform = self.lease.agent.get_or_insert_with(|| agent.to_string()).as_str().into();
        self.absent.back(&agent, Some(&platform), Instant::now());
        self.show_platform();
        self.container_speaks(&agent, &held).await;
        let actions = self.dispatch.agent_up(&agent, capacity, &held);
        self.act(actions).await;
        self.settle();
        self.move_limits().await;
    }

    /// Handles a connection that has ended. Ignored if the agent has reconnected.
    pub(super) async fn gone(&mut self, caller: ConnectionId, reason: &str) {
        let actions = self.lost(&caller, reason);
        self.act(actions).await;
        self.writer().send(Command::Left(caller)).await;
    }

    /// Removes an agent's connection; returns the actions that follow.
    pub(super) fn lost(&mut self, caller: &ConnectionId, reason: &str) -> Vec<Action> {
        if !self.agents.disconnect(caller) {
            return Vec::new();
        }
        tracing::warn!("the connection of agent {} ended: {reason}", caller.agent);
        if self.agents.is_empty() {
            self.set_platform(PlatformStatus::Starting {
                detail: format!("waiting for the agent ({reason})"),
            });
            // A live agent reconnects by itself; after this pause the engine has to start it.
            self.next_try = (!self.is_going_down()).then(|| Instant::now() + CONNECT_TIMEOUT / 5);
        } else {
            self.show_platform();
        }
        self.absent.gone(caller.agent.clone(), Instant::now());
        self.link_ended(&caller.agent, reason)
    }

    /// Handles an agent's acceptance of a job.
    pub(super) async fn accepted(&mut self, caller: &ConnectionId, job: JobId, epoch: u32) {
        if self.agents.is_current(caller) && self.dispatch.agent_of(&job) == Some(&caller.agent) {
            tracing::debug!("{job} accepted in epoch {epoch}");
            self.writer().send(Command::DropEnv(job)).await;
        }
    }

    /// Expires work held by absent agents.
    pub(super) async fn look_for_absent(&mut self) {
        let anybody = !self.agents.is_empty();
        let due = self.absent.due(|agent| self.agents.get(agent).is_some(), anybody, Instant::now());
        for due in due {
            let actions = match due {
                Due::GiveUp(agent) => self.dispatch.give_up(&agent),
                Due::Lost(agent) => {
                    tracing::error!("agent {agent} was replaced by another one: its jobs are lost");
                    self.door.tokens.revoke_agent(&agent);
                    self.lease.agent = self.agents.any().map(|session| session.hello.agent.clone());
                    self.show_platform();
                    self.dispatch.agent_lost(&agent)
                }
            };
            self.act(actions).await;
        }
    }

    /// Adds a warning to every running job: nothing was recorded for `time`.
    pub(super) async fn froze(&mut self, time: Duration) {
        let seconds = time.as_secs();
        let message = format!("{RELAY_SLEPT}{seconds} s: it was stopped, or this machine slept");
        tracing::warn!("{message}");
        let jobs: Vec<JobId> = self.dispatch.running().cloned().collect();
        for job in jobs {
            let body = Box::new(EventBody::Warning { message: message.clone() });
            self.writer().send(Command::Own { job, body }).await;
        }
    }

    /// Writes the state of the platform's agent into the lease; while it is disconnected, that of another agent.
    pub(super) fn show_platform(&mut self) {
        let platform = self.lease.agent.as_deref().and_then(|agent| self.agents.get(agent));
        let Some(session) = platform.or_else(|| self.agents.any()) else { return };
        let hello = session.hello.clone();
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
