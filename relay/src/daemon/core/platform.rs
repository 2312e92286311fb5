//! The platform: its status in the lease, and attempts to bring it up and take it down. Engine calls are slow: they run
//! one at a time, and events are handled meanwhile.
//!
//! ```text
//!  Starting ──an agent connects──► Ready ──the last one is gone──► Starting ──ensure fails──► Failed
//!     ▲                                                              ▲            │ RETRY_PAUSE, or `relay up`
//!     └──────────────────────────────────────────────────────────────┴────────────┘
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use common::vitals::MachineVitals;
use tokio::time::Instant;

use super::connections::{Connection, ConnectionId};
use super::effect::{Effect, EngineEffect};
use super::handle::Core;
use super::shutdown::Stage;
use super::turn::Turn;
use crate::engine_kind::EngineKind;
use crate::files::atomic::Durability;
use crate::min_free::{MinFree, Shortage};
use crate::registry::lease::{Lease, PlatformStatus};
use crate::state_dir::saved_state::SavedState;

/// Time for the agent to connect once it is configured. An agent pauses at most 5 s between two attempts.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before the next attempt to bring up a platform that failed.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// State of the platform, and what the daemon publishes of itself.
#[derive(Debug)]
pub(super) struct PlatformState {
    pub(super) engine: EngineKind,
    /// Name of the platform's container.
    pub(super) name: String,
    pub(super) lease: Lease,
    /// What a machine keeps free: no job is started on one that has less.
    min_free: MinFree,
    /// Other container engines that may still run containers of this registry.
    other_engines: Vec<EngineKind>,
    /// Next attempt to bring up the platform, unless an agent connects before.
    pub(super) next_try: Option<Instant>,
    /// The attempt to bring up the platform that is under way.
    pub(super) attempt: Option<Attempt>,
    gateway: Gateway,
}

/// State of the listener on the address under which containers reach this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gateway {
    /// The engine has not been asked for the address.
    Unknown,
    /// The engine was asked.
    Asked,
    /// The daemon listens on the address.
    Bound,
}

/// A running attempt to bring the platform up.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// Newest event since the attempt began.
    pub(super) news: Option<AttemptEvent>,
}

/// Event that came after an attempt began.
#[derive(Debug)]
pub(super) enum AttemptEvent {
    /// The container ended; the next attempt is due at `again_at`.
    Died { again_at: Instant },
    /// A person stopped the container.
    Stopped,
    /// `relay up` asked for the platform.
    Wanted,
}

impl Attempt {
    /// Records that `relay up` requested the platform during this attempt.
    pub(super) fn up_requested(&mut self, now: Instant) {
        self.news = Some(match self.news {
            None | Some(AttemptEvent::Wanted) => AttemptEvent::Wanted,
            Some(AttemptEvent::Died { .. } | AttemptEvent::Stopped) => AttemptEvent::Died { again_at: now },
        });
    }
}

impl PlatformState {
    /// Starts with the first lease of this daemon and the state that the last one stored.
    pub(super) fn new(lease: Lease, saved: &SavedState, name: String, min_free: MinFree) -> Self {
        let engine = lease.engine;
        Self {
            engine,
            name,
            lease,
            min_free,
            other_engines: saved.engines.iter().copied().filter(|other| *other != engine).collect(),
            next_try: None,
            attempt: None,
            gateway: Gateway::Unknown,
        }
    }
}

impl Core {
    /// Returns the published state of this daemon.
    pub(in crate::daemon) fn lease(&self) -> &Lease {
        &self.platform.lease
    }

    /// Returns what the next relay needs to know.
    pub(in crate::daemon) fn saved_state(&self) -> SavedState {
        let (lease, own) = (&self.platform.lease, self.platform.engine);
        let mut engines = self.platform.other_engines.clone();
        engines.extend((own.is_container() && self.shutdown.stage != Stage::Stopped).then_some(own));
        SavedState {
            engines,
            port: lease.listen.first().map(SocketAddr::port),
            agent: lease.agent.clone(),
            death: lease.death.clone(),
            clock: lease.clock.clone(),
        }
    }

    /// Publishes the state of this daemon, and stores what the next one needs of it.
    pub(super) fn publish(&self, durability: Durability, turn: &mut Turn) {
        turn.push(Effect::SaveState(Box::new(self.saved_state()), durability));
        turn.push(Effect::PublishLease(Box::new(self.platform.lease.clone()), durability));
    }

    /// Publishes the state of the platform's agent; while it is disconnected, that of another agent.
    pub(super) fn publish_agent(&mut self, turn: &mut Turn) {
        if let Some(connection) = self.shown_agent() {
            self.platform.lease.platform = self.status_of(connection);
            self.publish(Durability::Cached, turn);
        }
    }

    /// Returns the agent whose state is published.
    fn shown_agent(&self) -> Option<&Connection> {
        let connections = &self.agents.connections;
        let own = self.platform.lease.agent.as_deref().and_then(|agent| connections.get(agent));
        own.or_else(|| connections.first())
    }

    fn status_of(&self, connection: &Connection) -> PlatformStatus {
        let hello = &connection.hello;
        PlatformStatus::Ready {
            agent: hello.agent.clone(),
            version: hello.version.clone(),
            max_jobs: hello.max_jobs,
            codex: hello.platform.codex.clone(),
            codex_problem: hello.platform.codex_problem.clone(),
            agents: self.agents.connections.len(),
            vitals: hello.vitals.clone(),
            shortage: self.shortage(&hello.agent),
        }
    }

    /// Returns what the machine of an agent has too little of for another job.
    pub(super) fn shortage(&self, agent: &str) -> Option<Shortage> {
        let vitals = self.agents.connections.get(agent)?.hello.vitals.as_ref()?;
        self.platform.min_free.shortage(vitals)
    }

    /// Handles a measurement of an agent's machine. The next heartbeat publishes it; the begin and end of a shortage are
    /// published at once.
    pub(super) fn machine_measured(
        &mut self,
        connection_id: &ConnectionId,
        vitals: MachineVitals,
        turn: &mut Turn,
    ) {
        let agent = &connection_id.agent;
        if !self.agents.connections.is_current(connection_id) {
            return;
        }
        let was_short = self.shortage(agent).is_some();
        self.agents.connections.set_vitals(agent, vitals);
        self.container_measured(agent, Some(vitals));
        let shortage = self.shortage(agent);
        match &shortage {
            Some(shortage) if !was_short => {
                tracing::warn!("agent {agent} gets no jobs: {}", shortage.describe());
            }
            None if was_short => tracing::info!("agent {agent} gets jobs again"),
            _ => {}
        }
        if matches!(self.platform.lease.platform, PlatformStatus::Ready { .. })
            && let Some(connection) = self.shown_agent()
            && connection.hello.agent == **agent
        {
            self.platform.lease.platform = self.status_of(connection);
            if was_short != shortage.is_some() {
                self.publish(Durability::Cached, turn);
            }
        }
        let actions = self.scheduler.machine_measured(agent, shortage.is_some());
        self.act(actions, turn);
    }

    /// Publishes the status of a platform without a connected agent.
    pub(super) fn set_platform(&mut self, status: PlatformStatus, turn: &mut Turn) {
        if self.platform.lease.platform != status && self.agents.connections.is_empty() {
            self.platform.lease.platform = status;
            self.publish(Durability::Cached, turn);
        }
    }

    /// Starts an attempt to bring the platform up, unless one is under way or none is needed.
    pub(super) fn try_platform(&mut self, turn: &mut Turn) {
        self.platform.next_try = None;
        if self.platform.attempt.is_some() || self.has_platform() || self.is_going_down() {
            return;
        }
        // The status stays as it is until there is a better one: retrying a failure changes nothing.
        self.platform.attempt = Some(Attempt::default());
        turn.push(Effect::Engine(EngineEffect::Ensure));
    }

    /// Handles a `relay up`.
    pub(super) fn up_requested(&mut self, wall: jiff::Timestamp, turn: &mut Turn) {
        tracing::info!("the platform was requested");
        self.container.up_requested(wall);
        let detail = format!("starting {}", self.platform.engine);
        self.set_platform(PlatformStatus::Starting { detail }, turn);
        if let Some(attempt) = &mut self.platform.attempt {
            attempt.up_requested(turn.now);
        }
        self.try_platform(turn);
    }

    /// Handles the outcome of an attempt.
    pub(super) fn platform_ensured(&mut self, result: Result<(), String>, turn: &mut Turn) {
        let news = self.platform.attempt.take().and_then(|attempt| attempt.news);
        if self.is_going_down() {
            return turn.push(Effect::Engine(EngineEffect::Stop));
        }
        match (news, &result) {
            (Some(AttemptEvent::Stopped), _) if self.scheduler.is_empty() => {
                return self.container_stopped(turn);
            }
            (Some(AttemptEvent::Stopped), _) => {
                tracing::info!("a job arrived while the container was stopping: starting it again");
                return self.try_platform(turn);
            }
            (Some(AttemptEvent::Died { again_at }), _) => {
                self.platform.next_try = Some(again_at);
                return;
            }
            (Some(AttemptEvent::Wanted), Err(detail)) => {
                tracing::info!("requested again meanwhile, so it is retried: {detail}");
                return self.try_platform(turn);
            }
            _ => {}
        }
        match result {
            Err(detail) => {
                tracing::warn!("no platform: {detail}");
                self.set_platform(PlatformStatus::Failed { detail }, turn);
                self.platform.next_try = Some(turn.now + RETRY_PAUSE);
            }
            Ok(()) if self.agents.connections.is_empty() => {
                let detail = "waiting for the agent to connect".to_owned();
                self.set_platform(PlatformStatus::Starting { detail }, turn);
                self.platform.next_try = Some(turn.now + CONNECT_TIMEOUT);
            }
            Ok(()) => {}
        }
        if self.platform.gateway == Gateway::Unknown {
            self.platform.gateway = Gateway::Asked;
            turn.push(Effect::Engine(EngineEffect::OpenGateway));
        }
    }

    /// Publishes the address under which containers reach this host. If there is none, the next start of the platform
    /// asks the engine again.
    pub(super) fn gateway_opened(&mut self, address: Option<SocketAddr>, turn: &mut Turn) {
        let Some(address) = address else {
            self.platform.gateway = Gateway::Unknown;
            return;
        };
        self.platform.gateway = Gateway::Bound;
        self.platform.lease.listen.push(address);
        self.publish(Durability::Cached, turn);
    }
}
