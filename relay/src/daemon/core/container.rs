//! The platform's container: turns the engine's events into job events, causes and a new start.
//!
//! ```text
//!              pause                    die                      ensure
//!  Paused ◄───────────► Running ─────────────────► Dead ──RESTART_PAUSE───► Running, agent welcomed with its cause
//!            unpause       ▲                         │ stop, and nothing to do      │ ends of what it cut off
//!                          │                         ▼                              ▼
//!                          └──`relay up`, a job── Stopped by hand              death forgotten
//! ```
//!
//! The lease and the state folder keep a death until the agent has received it and every job that it cut off has ended,
//! so that a relay killed in between still has it. If the container can't come back, the relay ends those jobs itself.

use std::collections::BTreeSet;
use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::vitals::MachineVitals;
use common::wire::TerminationCause;
use jiff::Timestamp;
use tokio::time::Instant;

use super::container_exit;
use super::effect::{Effect, EngineEffect};
use super::handle::Core;
use super::input::ContainerChange;
use super::platform::{AttemptEvent, RETRY_PAUSE};
use super::scheduler::{Action, AgentId, Assignment};
use super::turn::Turn;
use crate::container_state::{ContainerState, Death};
use crate::engine_kind::EngineKind;
use crate::files::atomic::Durability;
use crate::registry::lease::PlatformStatus;

/// Time that an ended connection waits for its cause. The engine reports a death after 20 to 100 ms, on a busy machine
/// after some hundred ms. A death must be recorded within a second.
const CAUSE_TIMEOUT: Duration = Duration::from_millis(700);
/// The same time for an agent of this machine: the kernel releases a dead process's connection and lock in any order.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause between a death and the new start: Docker reports a stop by a person some 60 ms after the death.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// Time that cut-off jobs wait for their agent's last events where the platform can't be brought up: three tries, and
/// more than an engine's own restart takes. After that, events that the agent had not delivered are lost.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// The core's state of the container, beside the death in the lease.
#[derive(Debug, Default)]
pub(super) struct ContainerTracker {
    /// Reason why the connection of the platform's agent ended, and the deadline for a better one.
    pending_cause: Option<(String, Instant)>,
    /// Set while the container's processes are frozen.
    paused: bool,
    /// Set if a person stopped the container while no job was active.
    stopped: bool,
    /// Set once the agent was welcomed with the death.
    notified: bool,
    /// Time at which the death was seen.
    died_at: Option<Instant>,
    /// The engine's timestamp of the last death: both the event stream and each inspection report the same one.
    last_death: Option<String>,
    /// Time at which a death last led to a new start.
    restarted_at: Option<Instant>,
    /// Newest vitals of the platform's agent, also once it is gone.
    vitals: Option<MachineVitals>,
    /// Time of the last `relay up`, by the wall clock as the engine's timestamps are.
    wanted_at: Option<Timestamp>,
}

impl ContainerTracker {
    /// Returns the time of the next check.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending_cause.as_ref().map(|(_, until)| *until)
    }

    /// Notes a `relay up`.
    pub(super) fn up_requested(&mut self, wall: Timestamp) {
        self.wanted_at = Some(wall);
    }

    /// Returns true if `relay up` asked for the platform after the container ended: the engine reports a stop later.
    fn is_wanted_again(&self) -> bool {
        let ended_at = self.last_death.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
        self.wanted_at.zip(ended_at).is_some_and(|(wanted_at, ended_at)| wanted_at > ended_at)
    }
}

impl Core {
    /// The platform's own agent, connected or not, once it is known.
    fn platform_agent(&self) -> Option<AgentId> {
        self.platform.lease.agent.as_deref().map(AgentId::from)
    }

    /// Returns true if the platform's own agent is connected.
    fn is_platform_connected(&self) -> bool {
        self.platform.lease.agent.as_deref().is_some_and(|agent| self.agents.connections.get(agent).is_some())
    }

    /// Returns true if the platform needs no check: an agent is connected, and not in place of one whose container
    /// died.
    pub(super) fn has_platform(&self) -> bool {
        self.is_platform_connected()
            || (self.platform.lease.death.is_none() && !self.agents.connections.is_empty())
    }

    /// Returns how the container last died, for the handshake of its agent.
    pub(super) fn termination_cause(&self, agent: &str) -> Option<TerminationCause> {
        let lease = &self.platform.lease;
        let death = lease.death.as_ref().filter(|_| lease.agent.as_deref() == Some(agent))?;
        Some(container_exit::termination_cause(self.platform.engine, &self.platform.name, death))
    }

    /// Takes over a death that an earlier daemon left unresolved.
    pub(super) fn adopt_exit(&mut self, turn: &mut Turn) {
        self.container.died_at = self.platform.lease.death.is_some().then_some(turn.now);
        self.forget_exit(turn);
    }

    /// Handles the end of an agent's connection. The engine's reason takes precedence over the network's.
    pub(super) fn connection_ended(&mut self, agent: &AgentId, reason: &str, now: Instant) -> Vec<Action> {
        if self.platform_agent().as_ref() != Some(agent) || self.is_going_down() {
            return self.scheduler.agent_down(agent, reason);
        }
        let patience = match self.platform.engine {
            EngineKind::Docker | EngineKind::Podman => CAUSE_TIMEOUT,
            EngineKind::Local => LOCK_TIMEOUT,
        };
        self.container.pending_cause = Some((reason.to_owned(), now + patience));
        Vec::new()
    }

    /// Marks the jobs of the platform's agent as unreachable.
    fn mark_unreachable(&mut self, reason: &str, turn: &mut Turn) {
        self.container.pending_cause = None;
        if let Some(own) = self.platform_agent() {
            let actions = self.scheduler.agent_down(&own, reason);
            self.act(actions, turn);
        }
    }

    /// Handles an agent that was welcomed. For the platform's own agent, completes the list of jobs that the death cut
    /// off.
    pub(super) fn container_connected(&mut self, agent: &AgentId, held: &BTreeSet<JobId>, turn: &mut Turn) {
        if self.platform_agent().as_ref() != Some(agent) {
            return;
        }
        if let Some((reason, _)) = self.container.pending_cause.take() {
            self.mark_unreachable(&reason, turn);
        }
        self.container.paused = false;
        self.container.stopped = false;
        let scheduler = &self.scheduler;
        if let Some(death) = self.platform.lease.death.as_mut().filter(|_| !self.container.notified) {
            self.container.notified = true;
            // Jobs that never reached the agent are started again.
            death.cut_off.retain(|job| matches!(scheduler.assignment(job), Some(Assignment::Running(_))));
            death.cut_off.extend(held.iter().cloned());
        }
        self.set_cause();
    }

    /// Notes the vitals of an agent's machine, if that is the platform's own.
    pub(super) fn container_measured(&mut self, agent: &AgentId, vitals: Option<MachineVitals>) {
        if self.platform_agent().as_ref() == Some(agent) && vitals.is_some() {
            self.container.vitals = vitals;
        }
    }

    /// Records the newest vitals of a container that was killed for lack of memory with the jobs that it cut off.
    fn record_vitals(&self, turn: &mut Turn) {
        let (Some(own), Some(vitals)) = (self.platform_agent(), self.container.vitals) else { return };
        let jobs = self.scheduler.jobs_of(&own).into_iter();
        let running = |job: &JobId| matches!(self.scheduler.assignment(job), Some(Assignment::Running(_)));
        turn.effects.extend(
            jobs.filter(running).map(|job| Effect::Record { job, body: EventBody::Vitals(Box::new(vitals)) }),
        );
    }

    fn set_cause(&mut self) {
        let cause =
            self.platform_agent().and_then(|own| self.termination_cause(&own).map(|cause| (own, cause)));
        self.scheduler.set_cause(cause);
    }

    /// Handles an observed change of the container.
    pub(super) fn container_changed(&mut self, news: ContainerChange, turn: &mut Turn) {
        if self.is_going_down() {
            return;
        }
        tracing::info!("container: {news:?}");
        match news {
            ContainerChange::Died(death) => {
                self.container_died(death, turn);
                if let (Some(attempt), Some(again_at)) = (&mut self.platform.attempt, self.platform.next_try)
                {
                    attempt.news = Some(AttemptEvent::Died { again_at });
                }
            }
            ContainerChange::Inspected(state @ ContainerState::Exited { .. }) => {
                self.container_died(Death::from_state(&state), turn);
            }
            ContainerChange::Inspected(ContainerState::Absent) | ContainerChange::Removed => {
                self.container_removed(turn);
            }
            ContainerChange::Inspected(ContainerState::Paused) | ContainerChange::Paused => {
                self.container_paused(turn);
            }
            ContainerChange::Inspected(ContainerState::Running) | ContainerChange::Unpaused => {
                self.container_resumed(turn);
            }
            ContainerChange::Started => self.container.stopped = false,
            ContainerChange::Stopped => self.container_stopped(turn),
        }
    }

    fn container_died(&mut self, death: Death, turn: &mut Turn) {
        if death.finished_at.is_some() && death.finished_at == self.container.last_death {
            return;
        }
        self.container.last_death.clone_from(&death.finished_at);
        self.container.paused = false;
        let cause = container_exit::describe_exit(&self.platform.name, &death);
        tracing::warn!("{cause}");
        if death.oom_killed {
            self.record_vitals(turn);
        }
        self.record_exit(death, turn.now);
        self.mark_unreachable(&cause, turn);
        // The agent sends what had not arrived again from its spool.
        if let Some(connection_id) =
            self.platform_agent().and_then(|own| Some(self.agents.connections.get(&own)?.connection_id()))
        {
            self.agents.connections.disconnect(&connection_id);
            turn.push(Effect::Close(connection_id.number));
            self.agents.disconnects.disconnected(connection_id.agent, turn.now);
        }
        self.publish_agent(turn);
        self.set_platform(PlatformStatus::Starting { detail: cause }, turn);
        // Synced before anything is started again, which would erase the engine's own state of the death.
        self.publish(Durability::Synced, turn);
        let now = turn.now;
        let looping = self.container.restarted_at.is_some_and(|at| now - at < RETRY_PAUSE);
        self.container.restarted_at = Some(now);
        self.platform.next_try = Some(now + if looping { RETRY_PAUSE } else { RESTART_PAUSE });
    }

    /// Stores a death until its jobs have ended.
    fn record_exit(&mut self, mut death: Death, now: Instant) {
        death.cut_off.extend(self.platform_agent().into_iter().flat_map(|own| self.scheduler.jobs_of(&own)));
        death
            .cut_off
            .extend(self.platform.lease.death.take().into_iter().flat_map(|earlier| earlier.cut_off));
        self.container.notified = false;
        self.container.died_at = Some(now);
        self.platform.lease.death = Some(death);
        self.set_cause();
    }

    /// Handles a removed container. Its death is usually known already; a container that was removed before this daemon
    /// first looked counts as a new death.
    fn container_removed(&mut self, turn: &mut Turn) {
        let is_new = self.platform.lease.death.is_none() && !self.is_platform_connected();
        if is_new && self.platform_agent().is_some_and(|own| !self.scheduler.jobs_of(&own).is_empty()) {
            self.container_died(Death::from_state(&ContainerState::Absent), turn);
        }
    }

    /// Handles a pause. The connection may outlive a short one, so it is kept; but the jobs send no events now.
    fn container_paused(&mut self, turn: &mut Turn) {
        if self.container.paused {
            return;
        }
        self.container.paused = true;
        let cause = container_exit::describe_pause(self.platform.engine, &self.platform.name);
        tracing::warn!("{cause}");
        self.platform.lease.platform = PlatformStatus::Failed { detail: cause.clone() };
        self.publish(Durability::Cached, turn);
        self.mark_unreachable(&cause, turn);
    }

    fn container_resumed(&mut self, turn: &mut Turn) {
        if !self.container.paused {
            return;
        }
        self.container.paused = false;
        let connection = self
            .platform_agent()
            .and_then(|own| Some((self.agents.connections.get(&own)?.hello.max_jobs, own)));
        if let Some((max_jobs, own)) = connection {
            // The same connection, with the jobs that the agent had.
            self.publish_agent(turn);
            let capacity = usize::try_from(max_jobs).unwrap_or(usize::MAX);
            let held = self.scheduler.jobs_of(&own);
            let short = self.shortage(&own).is_some();
            let mut actions = self.scheduler.machine_measured(&own, short);
            actions.extend(self.scheduler.agent_up(&own, capacity, &held));
            self.act(actions, turn);
        } else {
            // The agent reconnects by itself.
            let detail = "waiting for the agent to connect".to_owned();
            self.set_platform(PlatformStatus::Starting { detail }, turn);
            self.platform.next_try = Some(turn.now + RETRY_PAUSE);
        }
    }

    /// Handles a stop by a person: the container is started again only if a job needs it.
    pub(super) fn container_stopped(&mut self, turn: &mut Turn) {
        if self.is_platform_connected() || !self.scheduler.is_empty() {
            return;
        }
        if self.container.is_wanted_again() {
            self.platform.next_try.get_or_insert(turn.now);
        } else if let Some(attempt) = &mut self.platform.attempt {
            attempt.news = Some(AttemptEvent::Stopped);
        } else {
            self.container.stopped = true;
            self.platform.next_try = None;
            let detail = container_exit::describe_stop(&self.platform.name);
            self.set_platform(PlatformStatus::Failed { detail }, turn);
        }
    }

    /// Runs the periodic work: causes that do not arrive, jobs that can't be continued, a job for a stopped container.
    pub(super) fn container_tick(&mut self, turn: &mut Turn) {
        let now = turn.now;
        if let Some((reason, _)) = self.container.pending_cause.take_if(|(_, until)| *until <= now) {
            if self.platform.engine == EngineKind::Local {
                turn.push(Effect::Engine(EngineEffect::FindAgent { reason }));
            } else {
                self.mark_unreachable(&reason, turn);
            }
        }
        self.wake_stopped(turn);
        let waited = self.container.died_at.is_some_and(|at| now - at >= RECOVERY_TIMEOUT);
        if let PlatformStatus::Failed { detail } = &self.platform.lease.platform
            && waited
            && !self.is_platform_connected()
            && !self.container.paused
            && let Some(cause) = self.platform_agent().and_then(|own| self.termination_cause(&own))
        {
            let why = format!("and it can't be restarted: {detail}");
            let record = |job| Action::Record { job, body: container_exit::final_event(&cause, &why) };
            let cut_off = self.platform.lease.death.as_mut().map(|death| std::mem::take(&mut death.cut_off));
            self.act(cut_off.into_iter().flatten().map(record).collect(), turn);
        }
    }

    /// Handles the agent of this machine whose connection has ended: if its process has, too, a new one is started.
    pub(super) fn agent_found(&mut self, runs: bool, reason: &str, turn: &mut Turn) {
        self.mark_unreachable(if runs { reason } else { "the agent's process has ended" }, turn);
        if !runs {
            self.try_platform(turn);
        }
    }

    /// Starts a container that a person has stopped once a job needs it.
    pub(super) fn wake_stopped(&mut self, turn: &mut Turn) {
        if self.container.stopped && !self.scheduler.is_empty() {
            self.container.stopped = false;
            let detail = format!("starting {}", self.platform.engine);
            self.set_platform(PlatformStatus::Starting { detail }, turn);
            self.try_platform(turn);
        }
    }

    /// Forgets a death once the agent has received it and every cut-off job has ended.
    pub(super) fn forget_exit(&mut self, turn: &mut Turn) {
        // An agent that has replaced the one that died needs no notification.
        let heard = self.container.notified || self.is_platform_connected();
        let Some(death) = &mut self.platform.lease.death else { return };
        let scheduler = &self.scheduler;
        death.cut_off.retain(|job| scheduler.assignment(job).is_some());
        if heard && death.cut_off.is_empty() {
            self.platform.lease.death = None;
            self.container.died_at = None;
            self.set_cause();
            self.publish(Durability::Cached, turn);
        }
    }
}
