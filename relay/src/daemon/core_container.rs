//! The core's handling of containers: turns the engine's events into job events, causes and a new start.
//!
//! ```text
//!              pause                    die                      ensure
//!  Paused ◄───────────► Running ─────────────────► Dead ──SETTLE──────────► Running, agent welcomed with its fate
//!            unpause       ▲                         │ stop, and nothing to do      │ ends of what it cut off
//!                          │                         ▼                              ▼
//!                          └──`relay up`, a job── Stopped by hand              death forgotten
//! ```
//!
//! The lease and the state folder keep a death until the agent has received it and every job that it cut off has ended,
//! so that a relay killed in between still has it. If the container can't come back, the relay ends those jobs itself.

use std::collections::BTreeSet;
use std::time::Duration;

use common::ids::JobId;
use common::wire::TerminationCause;
use jiff::Timestamp;
use tokio::time::Instant;

use super::core::{Core, RETRY};
use super::core_platform::News;
use super::dispatch::{Action, AgentId, Place};
use super::fate;
use super::input::ContainerNews;
use crate::engine::EngineKind;
use crate::engine::vitals::Vitals;
use crate::registry::atomic::Durability;
use crate::registry::lease::{Death, PlatformStatus};
use crate::time;

/// Time that an ended connection waits for its cause. The engine reports a death 20 to 100 ms after it, on a busy
/// machine some hundred. A death must be recorded within a second.
const CAUSE_PATIENCE: Duration = Duration::from_millis(700);
/// The same time for an agent of this machine: the kernel releases a dead process's connection and lock in any order.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
/// Pause between a death and the new start: Docker reports a stop by a person some 60 ms after the death.
const SETTLE: Duration = Duration::from_millis(300);
/// Time that cut-off jobs wait for their agent's last events where the platform can't be brought up: three tries, and
/// more than an engine's own restart takes. After that, events that the agent had not delivered are lost.
const BURIAL: Duration = Duration::from_secs(30);

/// The core's state of the container, beside the death in the lease.
#[derive(Debug, Default)]
pub(super) struct ContainerState {
    /// Reason why the connection of the platform's agent ended, and the deadline for a better one.
    silent: Option<(String, Instant)>,
    /// Set while the container's processes are frozen.
    paused: bool,
    /// Set if a person stopped the container while no job was active.
    stopped: bool,
    /// Set once the agent was welcomed with the death.
    told: bool,
    /// Time at which the death was seen.
    died_at: Option<Instant>,
    /// The engine's timestamp of the last death: both the event stream and each inspection report the same one.
    last_death: Option<String>,
    /// Time at which a death last led to a new start.
    restarted_at: Option<Instant>,
    /// Time of the last `relay up`, by the wall clock as the engine's timestamps are.
    wanted_at: Option<Timestamp>,
}

impl ContainerState {
    /// Returns the time of the next check.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.silent.as_ref().map(|(_, until)| *until)
    }

    /// Notes a `relay up`.
    pub(super) fn wanted(&mut self) {
        self.wanted_at = Some(time::now());
    }

    /// Returns true if `relay up` asked for the platform after the container ended: the engine reports a stop later.
    fn is_wanted_again(&self) -> bool {
        let ended_at = self.last_death.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
        self.wanted_at.zip(ended_at).is_some_and(|(wanted_at, ended_at)| wanted_at > ended_at)
    }
}

impl Core {
    /// The platform's own agent, connected or not, once it is known.
    fn own(&self) -> Option<AgentId> {
        self.lease.agent.as_deref().map(AgentId::from)
    }

    /// Returns true if the platform's own agent is connected.
    fn own_is_here(&self) -> bool {
        self.lease.agent.as_deref().is_some_and(|agent| self.agents.get(agent).is_some())
    }

    /// Returns true if the platform needs no check: an agent is connected, and not in place of one whose container
    /// died.
    pub(super) fn platform_is_there(&self) -> bool {
        self.own_is_here() || (self.lease.death.is_none() && !self.agents.is_empty())
    }

    /// Returns how the container last died, for the handshake of its agent.
    pub(super) fn fate(&self, agent: &str) -> Option<TerminationCause> {
        let death = self.lease.death.as_ref().filter(|_| self.lease.agent.as_deref() == Some(agent))?;
        Some(fate::fate(self.platform.engine(), self.platform.name(), death))
    }

    /// Takes over a death that an earlier daemon left unresolved.
    pub(super) fn adopt_death(&mut self) {
        self.container.died_at = self.lease.death.is_some().then(Instant::now);
        self.settle();
    }

    /// Handles the end of an agent's connection. The engine's reason takes precedence over the network's.
    pub(super) fn link_ended(&mut self, agent: &AgentId, reason: &str) -> Vec<Action> {
        if self.own().as_ref() != Some(agent) || self.is_going_down() {
            return self.dispatch.agent_down(agent, reason);
        }
        let patience = match self.platform.engine() {
            EngineKind::Docker | EngineKind::Podman => CAUSE_PATIENCE,
            EngineKind::Local => LOCK_PATIENCE,
        };
        self.container.silent = Some((reason.to_owned(), Instant::now() + patience));
        Vec::new()
    }

    /// Marks the jobs of the platform's agent as unreachable.
    async fn unseen(&mut self, reason: &str) {
        self.container.silent = None;
        if let Some(own) = self.own() {
            let actions = self.dispatch.agent_down(&own, reason);
            self.act(actions).await;
        }
    }

    /// Handles an agent that was welcomed. For the platform's own agent, completes the list of jobs that the death cut
    /// off.
    pub(super) async fn container_speaks(&mut self, agent: &AgentId, held: &BTreeSet<JobId>) {
        if self.own().as_ref() != Some(agent) {
            return;
        }
        if let Some((reason, _)) = self.container.silent.take() {
            self.unseen(&reason).await;
        }
        self.container.paused = false;
        self.container.stopped = false;
        let dispatch = &self.dispatch;
        if let Some(death) = self.lease.death.as_mut().filter(|_| !self.container.told) {
            self.container.told = true;
            // Jobs that never reached the agent are started again.
            death.cut_off.retain(|job| matches!(dispatch.place(job), Some(Place::Running(_))));
            death.cut_off.extend(held.iter().cloned());
        }
        self.share_fate();
    }

    fn share_fate(&mut self) {
        let fate = self.own().and_then(|own| self.fate(&own).map(|fate| (own, fate)));
        self.dispatch.share_fate(fate);
    }

    /// Handles an observed change of the container.
    pub(super) async fn container_news(&mut self, news: ContainerNews) {
        if self.is_going_down() {
            return;
        }
        tracing::info!("container: {news:?}");
        match news {
            ContainerNews::Died(death) => {
                self.died(death).await;
                if let (Some(attempt), Some(again_at)) = (&mut self.attempt, self.next_try) {
                    attempt.news = Some(News::Died { again_at });
                }
            }
            ContainerNews::Seen(vitals @ Vitals::Exited { .. }) => self.died(Death::of(&vitals)).await,
            ContainerNews::Seen(Vitals::Absent) | ContainerNews::Removed => self.removed().await,
            ContainerNews::Seen(Vitals::Paused) | ContainerNews::Paused => self.paused().await,
            ContainerNews::Seen(Vitals::Running) | ContainerNews::Unpaused => self.resumed().await,
            ContainerNews::Started => self.container.stopped = false,
            ContainerNews::Stopped => self.stopped(),
        }
    }

    async fn died(&mut self, death: Death) {
        if death.finished_at.is_some() && death.finished_at == self.container.last_death {
            return;
        }
        self.container.last_death.clone_from(&death.finished_at);
        self.container.paused = false;
        let cause = fate::cause(self.platform.name(), &death);
        tracing::warn!("{cause}");
        self.bury(death);
        self.unseen(&cause).await;
        // Dropping its handle ends the connection; the agent sends what had not arrived again from its spool.
        if let Some(caller) = self.own().and_then(|own| Some(self.agents.get(&own)?.caller())) {
            self.agents.disconnect(&caller);
            self.absent.gone(caller.agent, Instant::now());
        }
        self.show_platform();
        self.set_platform(PlatformStatus::Starting { detail: cause });
        // Synced before anything is started again, which would erase the engine's own state of the death.
        self.publish(Durability::Synced);
        let now = Instant::now();
        let looping = self.container.restarted_at.is_some_and(|at| now - at < RETRY);
        self.container.restarted_at = Some(now);
        self.next_try = Some(now + if looping { RETRY } else { SETTLE });
    }

    /// Stores a death until its jobs have ended.
    fn bury(&mut self, mut death: Death) {
        death.cut_off.extend(self.own().into_iter().flat_map(|own| self.dispatch.with(&own)));
        death.cut_off.extend(self.lease.death.take().into_iter().flat_map(|earlier| earlier.cut_off));
        self.container.told = false;
        self.container.died_at = Some(Instant::now());
        self.lease.death = Some(death);
        self.share_fate();
    }

    /// Handles a removed container. Its death is usually known already; a container that was removed before this daemon
    /// first looked counts as a new death.
    async fn removed(&mut self) {
        let unheard = self.lease.death.is_none() && !self.own_is_here();
        if unheard && self.own().is_some_and(|own| !self.dispatch.with(&own).is_empty()) {
            self.died(Death::of(&Vitals::Absent)).await;
        }
    }

    /// Handles a pause. The connection may outlive a short one, so it is kept; but the jobs send no events now.
    async fn paused(&mut self) {
        if self.container.paused {
            return;
        }
        self.container.paused = true;
        let cause = fate::paused(self.platform.engine(), self.platform.name());
        tracing::warn!("{cause}");
        self.lease.platform = PlatformStatus::Failed { detail: cause.clone() };
        self.publish(Durability::Cached);
        self.unseen(&cause).await;
    }

    async fn resumed(&mut self) {
        if !self.container.paused {
            return;
        }
        self.container.paused = false;
        let session = self.own().and_then(|own| Some((self.agents.get(&own)?.hello.max_jobs, own)));
        if let Some((max_jobs, own)) = session {
            // The same connection, with the jobs that the agent had.
            self.show_platform();
            let capacity = usize::try_from(max_jobs).unwrap_or(usize::MAX);
            let held = self.dispatch.with(&own);
            let actions = self.dispatch.agent_up(&own, capacity, &held);
            self.act(actions).await;
        } else {
            // The agent reconnects by itself.
            let detail = "waiting for the agent to connect".to_owned();
            self.set_platform(PlatformStatus::Starting { detail });
            self.next_try = Some(Instant::now() + RETRY);
        }
    }

    /// Handles a stop by a person: the container is started again only if a job needs it.
    pub(super) fn stopped(&mut self) {
        if self.own_is_here() || !self.dispatch.is_empty() {
            return;
        }
        if self.container.is_wanted_again() {
            self.next_try.get_or_insert_with(Instant::now);
        } else if let Some(attempt) = &mut self.attempt {
            attempt.news = Some(News::Stopped);
        } else {
            self.container.stopped = true;
            self.next_try = None;
            self.set_platform(PlatformStatus::Failed { detail: fate::stopped(self.platform.name()) });
        }
    }

    /// Runs the periodic work: causes that do not arrive, jobs that can't be continued, a job for a stopped container.
    pub(super) async fn container_tick(&mut self) {
        let now = Instant::now();
        if let Some((reason, _)) = self.container.silent.take_if(|(_, until)| *until <= now) {
            if self.platform.engine() == EngineKind::Local && !self.platform.agent_runs() {
                self.next_try = Some(now);
                self.unseen("the agent's process has ended").await;
            } else {
                self.unseen(&reason).await;
            }
        }
        self.wake_stopped();
        let waited = self.container.died_at.is_some_and(|at| now - at >= BURIAL);
        if let PlatformStatus::Failed { detail } = &self.lease.platform
            && waited
            && !self.own_is_here()
            && !self.container.paused
            && let Some(fate) = self.own().and_then(|own| self.fate(&own))
        {
            let why = format!("and it can't be brought back: {detail}");
            let record = |job| Action::Record { job, body: fate::end(&fate, &why) };
            let cut_off = self.lease.death.as_mut().map(|death| std::mem::take(&mut death.cut_off));
            self.act(cut_off.into_iter().flatten().map(record).collect()).await;
        }
    }

    /// Starts a container that a person has stopped once a job needs it.
    pub(super) fn wake_stopped(&mut self) {
        if self.container.stopped && !self.dispatch.is_empty() {
            self.container.stopped = false;
            let detail = format!("starting {}", self.platform.engine());
            self.set_platform(PlatformStatus::Starting { detail });
            self.try_platform();
        }
    }

    /// Forgets a death once the agent has received it and every cut-off job has ended.
    pub(super) fn settle(&mut self) {
        // An agent that has replaced the one that died needs no notification.
        let heard = self.container.told || self.own_is_here();
        let Some(death) = &mut self.lease.death else { return };
        let dispatch = &self.dispatch;
        death.cut_off.retain(|job| dispatch.place(job).is_some());
        if heard && death.cut_off.is_empty() {
            self.lease.death = None;
            self.container.died_at = None;
            self.share_fate();
            self.publish(Durability::Cached);
        }
    }
}
