//! The platform's container: turns the engine's events into job events, causes and a new start.
//!
//! ```text
//!              pause                    die                      ensure
//!  Paused ◄───────────► Running ─────────────────► Dead ──RESTART_PAUSE───► Running, agent welcomed with the cause
//!            unpause       ▲                         │ stop, and nothing to do      │ interrupted jobs ended
//!                          │                         ▼                              ▼
//!                          └──`relay up`, a job── Stopped by hand              exit forgotten
//! ```
//!
//! The lease and the state folder keep an exit until the agent has received it and every interrupted job has ended. So
//! the exit survives the end of the relay. If the container can't come back, the relay ends those jobs itself.

use std::collections::BTreeSet;
use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::vitals::MachineVitals;
use common::wire::TerminationCause;
use jiff::Timestamp;
use tokio::time::Instant;

use super::capacity::AgentId;
use super::container_exit;
use super::effect::{Effect, EngineEffect};
use super::handle::Core;
use super::input::ContainerChange;
use super::input_context::InputContext;
use super::platform::{AttemptEvent, RETRY_PAUSE};
use super::scheduler::{Action, Assignment};
use crate::container_state::{ContainerExit, ContainerState};
use crate::engine_kind::EngineKind;
use crate::files::atomic::Durability;
use crate::registry::lease::PlatformStatus;

/// Time to wait for the engine to report why a connection ended. The engine reports a container exit after 20 to 100
/// ms, on a busy machine after some hundred ms. The relay must record an exit within a second.
const CAUSE_TIMEOUT: Duration = Duration::from_millis(700);
/// Time to wait after the connection of an agent on this machine ended, before the agent's lock is checked. When the
/// agent dies, the kernel may close the connection before the lock is released.
const LOCK_CHECK_DELAY: Duration = Duration::from_millis(100);
/// Pause between the exit of the container and its new start. If a person has stopped the container, Docker reports the
/// stop some 60 ms after the exit.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// Time for which interrupted jobs wait for their agent's last events while the platform can't be started. It allows
/// for three attempts, and is longer than a restart of the engine takes. After that time, events that the agent has not
/// delivered are lost.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// State of the platform's container, except its last exit, which is in the lease.
#[derive(Debug, Default)]
pub(super) struct ContainerTracker {
    /// Reason why the platform's agent disconnected, and time until which the engine may report a more exact reason.
    pending_cause: Option<(String, Instant)>,
    /// True while the container's processes are frozen.
    is_paused: bool,
    /// True if a person stopped the container while no job was active.
    is_stopped_by_person: bool,
    /// True after the agent was welcomed with the cause of the last exit.
    is_agent_notified: bool,
    /// Time at which the last exit was observed.
    exit_observed_at: Option<Instant>,
    /// The engine's timestamp of the last exit, which is the same in the event stream and in each inspection.
    last_exit_time: Option<String>,
    /// Time at which the container was last restarted after an exit.
    restarted_at: Option<Instant>,
    /// Newest vitals of the machine of the platform's agent, kept after the agent has disconnected.
    vitals: Option<MachineVitals>,
    /// Wall-clock time of the last `relay up`, comparable with the engine's timestamps.
    up_requested_at: Option<Timestamp>,
}

impl ContainerTracker {
    /// Returns the time at which [`Core::check_container`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending_cause.as_ref().map(|(_, until)| *until)
    }

    /// Records a `relay up`.
    pub(super) fn record_up_request(&mut self, wall_time: Timestamp) {
        self.up_requested_at = Some(wall_time);
    }

    /// Returns true if `relay up` was called after the container's exit. The engine reports a stop that preceded that
    /// call only later.
    fn was_up_requested_since_exit(&self) -> bool {
        let ended_at = self.last_exit_time.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
        self.up_requested_at.zip(ended_at).is_some_and(|(requested_at, ended_at)| requested_at > ended_at)
    }
}

impl Core {
    /// Returns the platform's own agent, connected or not; `None` before it is known.
    pub(super) fn platform_agent(&self) -> Option<AgentId> {
        self.platform.lease.agent.as_deref().map(AgentId::from)
    }

    /// Returns true if the platform's own agent is connected.
    fn is_platform_connected(&self) -> bool {
        self.platform
            .lease
            .agent
            .as_deref()
            .is_some_and(|agent| self.agents.connections.get_connection(agent).is_some())
    }

    /// Returns true if the platform need not be started: an agent is connected, and no container exit is unresolved.
    pub(super) fn is_platform_up(&self) -> bool {
        self.is_platform_connected()
            || (self.platform.lease.last_exit.is_none() && self.agents.connections.has_shared_agent())
    }

    /// Returns the cause of the container's last exit, for the handshake of its agent.
    pub(super) fn termination_cause_for(&self, agent: &str) -> Option<TerminationCause> {
        if let Some(cause) = self.boxes.termination_cause(agent) {
            return Some(cause);
        }
        let lease = &self.platform.lease;
        let exit = lease.last_exit.as_ref().filter(|_| lease.agent.as_deref() == Some(agent))?;
        Some(container_exit::termination_cause(self.platform.engine, &self.platform.name, exit))
    }

    /// Adopts an exit that an earlier daemon left unresolved.
    pub(super) fn adopt_saved_exit(&mut self, context: &mut InputContext) {
        self.container.exit_observed_at = self.platform.lease.last_exit.is_some().then_some(context.now);
        self.forget_exit(context);
    }

    /// Handles the end of an agent's connection. A reason that the engine reports in time replaces the network error.
    pub(super) fn on_agent_connection_end(
        &mut self,
        agent: &AgentId,
        reason: &str,
        now: Instant,
    ) -> Vec<Action> {
        if self.platform_agent().as_ref() != Some(agent) || self.is_stopping_platform() {
            return self.scheduler.on_agent_disconnected(agent, reason);
        }
        let delay = match self.platform.engine {
            EngineKind::Docker | EngineKind::Podman => CAUSE_TIMEOUT,
            EngineKind::Local => LOCK_CHECK_DELAY,
        };
        self.container.pending_cause = Some((reason.to_owned(), now + delay));
        self.scheduler.stop_offers(agent);
        Vec::new()
    }

    /// Marks the jobs of the platform's agent as unreachable.
    fn mark_unreachable(&mut self, reason: &str, context: &mut InputContext) {
        self.container.pending_cause = None;
        if let Some(agent) = self.platform_agent() {
            let actions = self.scheduler.on_agent_disconnected(&agent, reason);
            self.execute_actions(actions, context);
        }
    }

    /// Handles an agent that was welcomed. For the platform's own agent, completes the list of the jobs that the
    /// container's exit interrupted.
    pub(super) fn on_platform_agent_connected(
        &mut self,
        agent: &AgentId,
        held_jobs: &BTreeSet<JobId>,
        context: &mut InputContext,
    ) {
        if self.platform_agent().as_ref() != Some(agent) {
            return;
        }
        if let Some((reason, _)) = self.container.pending_cause.take() {
            self.mark_unreachable(&reason, context);
        }
        self.container.is_paused = false;
        self.container.is_stopped_by_person = false;
        let scheduler = &self.scheduler;
        if let Some(exit) =
            self.platform.lease.last_exit.as_mut().filter(|_| !self.container.is_agent_notified)
        {
            self.container.is_agent_notified = true;
            // Jobs that never reached the agent are started again.
            exit.cut_off.retain(|job| matches!(scheduler.assignment(job), Some(Assignment::Running(_))));
            exit.cut_off.extend(held_jobs.iter().cloned());
        }
        self.update_exit_cause();
    }

    /// Stores the vitals of an agent's machine if the agent is the platform's own.
    pub(super) fn store_platform_vitals(&mut self, agent: &AgentId, vitals: Option<MachineVitals>) {
        if self.platform_agent().as_ref() == Some(agent) && vitals.is_some() {
            self.container.vitals = vitals;
        }
    }

    /// Records the newest vitals for each job that was interrupted when the container was killed for lack of memory.
    fn record_vitals(&self, context: &mut InputContext) {
        let (Some(agent), Some(vitals)) = (self.platform_agent(), self.container.vitals) else { return };
        let jobs = self.scheduler.jobs_of(&agent).into_iter();
        let is_running = |job: &JobId| matches!(self.scheduler.assignment(job), Some(Assignment::Running(_)));
        context.effects.extend(
            jobs.filter(is_running)
                .map(|job| Effect::Record { job, body: EventBody::Vitals(Box::new(vitals)) }),
        );
    }

    /// Passes the cause of the container's last exit, if there is one, to the scheduler.
    fn update_exit_cause(&mut self) {
        let cause = self
            .platform_agent()
            .and_then(|agent| self.termination_cause_for(&agent).map(|cause| (agent, cause)));
        self.scheduler.set_exit_cause(cause);
    }

    /// Handles an observed change of the container.
    pub(super) fn on_container_change(&mut self, change: ContainerChange, context: &mut InputContext) {
        if self.is_stopping_platform() {
            return;
        }
        tracing::info!("container: {change:?}");
        match change {
            ContainerChange::Died(exit) => {
                self.on_container_exit(exit, context);
                if let (Some(attempt), Some(retry_at)) =
                    (&mut self.platform.running_attempt, self.platform.next_attempt_at)
                {
                    attempt.newest_event = Some(AttemptEvent::ContainerExited { retry_at });
                }
            }
            ContainerChange::Inspected(state @ ContainerState::Exited { .. }) => {
                self.on_container_exit(ContainerExit::from_state(&state), context);
            }
            ContainerChange::Inspected(ContainerState::Absent) | ContainerChange::Removed => {
                self.on_container_removed(context);
            }
            ContainerChange::Inspected(ContainerState::Paused) | ContainerChange::Paused => {
                self.on_container_paused(context);
            }
            ContainerChange::Inspected(ContainerState::Running) | ContainerChange::Unpaused => {
                self.on_container_resumed(context);
            }
            ContainerChange::Started => self.container.is_stopped_by_person = false,
            ContainerChange::Stopped => self.on_container_stopped(context),
        }
    }

    fn on_container_exit(&mut self, exit: ContainerExit, context: &mut InputContext) {
        if exit.finished_at.is_some() && exit.finished_at == self.container.last_exit_time {
            return;
        }
        self.container.last_exit_time.clone_from(&exit.finished_at);
        self.container.is_paused = false;
        let cause = container_exit::describe_exit(&self.platform.name, &exit);
        tracing::warn!("{cause}");
        if exit.oom_killed {
            self.record_vitals(context);
        }
        self.record_exit(exit, context.now);
        self.mark_unreachable(&cause, context);
        // The agent sends undelivered events again from its spool.
        if let Some(connection_id) = self
            .platform_agent()
            .and_then(|agent| Some(self.agents.connections.get_connection(&agent)?.connection_id()))
        {
            self.agents.connections.disconnect(&connection_id);
            context.push(Effect::Close(connection_id.number));
            self.agents.disconnects.on_disconnect(connection_id.agent, context.now);
        }
        self.publish_agent(context);
        self.publish_platform_status(PlatformStatus::Starting { detail: cause }, context);
        // The exit is synced before the container is started again, because the start erases the engine's record of it.
        self.publish_state(Durability::Synced, context);
        let now = context.now;
        let was_restarted_recently = self.container.restarted_at.is_some_and(|at| now - at < RETRY_PAUSE);
        self.container.restarted_at = Some(now);
        self.platform.next_attempt_at =
            Some(now + if was_restarted_recently { RETRY_PAUSE } else { RESTART_PAUSE });
    }

    /// Stores an exit until the jobs that it interrupted have ended.
    fn record_exit(&mut self, mut exit: ContainerExit, now: Instant) {
        exit.cut_off
            .extend(self.platform_agent().into_iter().flat_map(|agent| self.scheduler.jobs_of(&agent)));
        exit.cut_off
            .extend(self.platform.lease.last_exit.take().into_iter().flat_map(|earlier| earlier.cut_off));
        self.container.is_agent_notified = false;
        self.container.exit_observed_at = Some(now);
        self.platform.lease.last_exit = Some(exit);
        self.update_exit_cause();
    }

    /// Handles a removed container. Its exit is usually known already. If the container was removed before this daemon
    /// first checked it, the removal counts as a new exit.
    fn on_container_removed(&mut self, context: &mut InputContext) {
        let is_new = self.platform.lease.last_exit.is_none() && !self.is_platform_connected();
        if is_new && self.platform_agent().is_some_and(|agent| !self.scheduler.jobs_of(&agent).is_empty()) {
            self.on_container_exit(ContainerExit::from_state(&ContainerState::Absent), context);
        }
    }

    /// Handles a paused container. The agent's connection is kept, because it may survive a short pause. The jobs send
    /// no events while the container is paused.
    fn on_container_paused(&mut self, context: &mut InputContext) {
        if self.container.is_paused {
            return;
        }
        self.container.is_paused = true;
        let cause = container_exit::describe_pause(self.platform.engine, &self.platform.name);
        tracing::warn!("{cause}");
        self.platform.lease.platform = PlatformStatus::Failed { detail: cause.clone() };
        self.publish_state(Durability::Cached, context);
        self.mark_unreachable(&cause, context);
    }

    fn on_container_resumed(&mut self, context: &mut InputContext) {
        if !self.container.is_paused {
            return;
        }
        self.container.is_paused = false;
        let connection = self
            .platform_agent()
            .and_then(|agent| Some((self.agents.connections.get_connection(&agent)?.hello.max_jobs, agent)));
        if let Some((max_jobs, agent)) = connection {
            // The connection has survived the pause, and the agent still has its jobs.
            self.publish_agent(context);
            let held_jobs = self.scheduler.jobs_of(&agent);
            self.connect_to_scheduler(&agent, max_jobs, &held_jobs, context);
        } else {
            // The agent reconnects by itself.
            let detail = "waiting for the agent to connect".to_owned();
            self.publish_platform_status(PlatformStatus::Starting { detail }, context);
            self.platform.next_attempt_at = Some(context.now + RETRY_PAUSE);
        }
    }

    /// Handles a stop by a person: the container is started again only for a job, or for a `relay up` after the exit.
    pub(super) fn on_container_stopped(&mut self, context: &mut InputContext) {
        if self.is_platform_connected() || !self.scheduler.is_empty() {
            return;
        }
        if self.container.was_up_requested_since_exit() {
            self.platform.next_attempt_at.get_or_insert(context.now);
        } else if let Some(attempt) = &mut self.platform.running_attempt {
            attempt.newest_event = Some(AttemptEvent::ContainerStopped);
        } else {
            self.container.is_stopped_by_person = true;
            self.platform.next_attempt_at = None;
            let detail = container_exit::describe_stop(&self.platform.name);
            self.publish_platform_status(PlatformStatus::Failed { detail }, context);
        }
    }

    /// Runs the periodic work: stops waiting for the cause of an ended connection, starts a stopped container for a
    /// job, and ends jobs that can't continue.
    pub(super) fn check_container(&mut self, context: &mut InputContext) {
        let now = context.now;
        if let Some((reason, _)) = self.container.pending_cause.take_if(|(_, until)| *until <= now) {
            if self.platform.engine == EngineKind::Local {
                context.push(Effect::Engine(EngineEffect::FindLocalAgentProcess { reason }));
            } else {
                self.mark_unreachable(&reason, context);
            }
        }
        self.restart_stopped_for_job(context);
        let has_waited = self.container.exit_observed_at.is_some_and(|at| now - at >= RECOVERY_TIMEOUT);
        if let PlatformStatus::Failed { detail } = &self.platform.lease.platform
            && has_waited
            && !self.is_platform_connected()
            && !self.container.is_paused
            && let Some(cause) = self.platform_agent().and_then(|agent| self.termination_cause_for(&agent))
        {
            let reason = format!("and it can't be restarted: {detail}");
            let record = |job| Action::Record { job, body: container_exit::final_event(&cause, &reason) };
            let cut_off =
                self.platform.lease.last_exit.as_mut().map(|exit| std::mem::take(&mut exit.cut_off));
            self.execute_actions(cut_off.into_iter().flatten().map(record).collect(), context);
        }
    }

    /// Handles the answer to [`EngineEffect::FindLocalAgentProcess`], which follows the end of a local agent's
    /// connection. If the agent's process has ended too, a new agent is started.
    pub(super) fn on_local_agent_process(
        &mut self,
        is_running: bool,
        reason: &str,
        context: &mut InputContext,
    ) {
        self.mark_unreachable(if is_running { reason } else { "the agent's process has ended" }, context);
        if !is_running {
            self.start_attempt_if_needed(context);
        }
    }

    /// Starts a container that a person has stopped, if a job needs it.
    pub(super) fn restart_stopped_for_job(&mut self, context: &mut InputContext) {
        if self.container.is_stopped_by_person && !self.scheduler.is_empty() {
            self.container.is_stopped_by_person = false;
            let detail = format!("starting {}", self.platform.engine);
            self.publish_platform_status(PlatformStatus::Starting { detail }, context);
            self.start_attempt_if_needed(context);
        }
    }

    /// Removes an exit once the agent has received it and every interrupted job has ended.
    pub(super) fn forget_exit(&mut self, context: &mut InputContext) {
        // An agent that has replaced the dead agent need not be notified.
        let is_resolved = self.container.is_agent_notified || self.is_platform_connected();
        let Some(exit) = &mut self.platform.lease.last_exit else { return };
        let scheduler = &self.scheduler;
        exit.cut_off.retain(|job| scheduler.assignment(job).is_some());
        if is_resolved && exit.cut_off.is_empty() {
            self.platform.lease.last_exit = None;
            self.container.exit_observed_at = None;
            self.update_exit_cause();
            self.publish_state(Durability::Cached, context);
        }
    }
}
