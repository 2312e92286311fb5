//! The platform: its status in the lease, and attempts to start and stop it. Engine calls are slow, so they run one at
//! a time while events are handled.
//!
//! ```text
//!  Starting ──an agent connects──► Ready ──the last agent ends──► Starting ──ensure fails──► Failed
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
use super::input_context::InputContext;
use super::shutdown::ShutdownStage;
use crate::engine_kind::EngineKind;
use crate::files::atomic::Durability;
use crate::min_free::{MinFree, Shortage};
use crate::registry::lease::{Lease, PlatformStatus};
use crate::state_dir::saved_state::SavedState;
use crate::state_dir::tokens::HolderKind;

/// Time limit for the platform's agent to connect after the platform was started. An agent pauses at most 5 s between
/// two attempts.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before the next attempt to start a platform that failed.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// State of the platform, and the lease, in which the daemon publishes its state.
#[derive(Debug)]
pub(super) struct PlatformState {
    pub(super) engine: EngineKind,
    /// Name of the platform's container.
    pub(super) name: String,
    pub(super) lease: Lease,
    /// Memory and disk space that a machine must keep free. No job is started on a machine that has less.
    min_free: MinFree,
    /// Other container engines that may still run containers of this registry.
    other_engines: Vec<EngineKind>,
    /// Time of the next attempt to start the platform, unless an agent connects before.
    pub(super) next_attempt_at: Option<Instant>,
    /// Attempt to start the platform that is in progress.
    pub(super) running_attempt: Option<StartAttempt>,
    gateway: GatewayState,
    /// Reason why no Codex worker can reach its model through this relay.
    model_problem: Option<String>,
}

/// State of the listener on the address at which containers reach this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GatewayState {
    /// The engine has not been queried for the address yet.
    Unknown,
    /// The engine was queried.
    Queried,
    /// The daemon listens on the address.
    Bound,
}

/// Attempt to start the platform that is in progress.
#[derive(Debug, Default)]
pub(super) struct StartAttempt {
    /// Newest event since the attempt began.
    pub(super) newest_event: Option<AttemptEvent>,
}

/// Event during an attempt to start the platform.
#[derive(Debug)]
pub(super) enum AttemptEvent {
    /// The container exited; the next attempt is due at `retry_at`.
    ContainerExited { retry_at: Instant },
    /// A person stopped the container.
    ContainerStopped,
    /// `relay up` was called.
    UpRequested,
}

impl StartAttempt {
    /// Records that `relay up` requested the platform during this attempt.
    pub(super) fn record_up_request(&mut self, now: Instant) {
        self.newest_event = Some(match self.newest_event {
            None | Some(AttemptEvent::UpRequested) => AttemptEvent::UpRequested,
            Some(AttemptEvent::ContainerExited { .. } | AttemptEvent::ContainerStopped) => {
                AttemptEvent::ContainerExited { retry_at: now }
            }
        });
    }
}

impl PlatformState {
    /// Creates the state from the first lease of this daemon and the stored state of the last daemon.
    pub(super) fn new(lease: Lease, saved: &SavedState, name: String, min_free: MinFree) -> Self {
        let engine = lease.engine;
        Self {
            engine,
            name,
            lease,
            min_free,
            other_engines: saved.engines.iter().copied().filter(|other| *other != engine).collect(),
            next_attempt_at: None,
            running_attempt: None,
            gateway: GatewayState::Unknown,
            model_problem: None,
        }
    }
}

impl Core {
    /// Returns the published state of this daemon.
    pub(in crate::daemon) fn lease(&self) -> &Lease {
        &self.platform.lease
    }

    /// Returns the state for the next relay.
    pub(in crate::daemon) fn saved_state(&self) -> SavedState {
        let (lease, engine) = (&self.platform.lease, self.platform.engine);
        let mut engines = self.platform.other_engines.clone();
        engines.extend(
            (engine.is_container() && self.shutdown.stage != ShutdownStage::PlatformStopped)
                .then_some(engine),
        );
        SavedState {
            engines,
            port: lease.listen.first().map(SocketAddr::port),
            agent: lease.agent.clone(),
            last_exit: lease.last_exit.clone(),
            clock: lease.clock.clone(),
        }
    }

    /// Publishes this daemon's lease, and saves the state that the next daemon starts from.
    pub(super) fn publish_state(&self, durability: Durability, context: &mut InputContext) {
        context.push(Effect::SaveState(Box::new(self.saved_state()), durability));
        context.push(Effect::PublishLease(Box::new(self.platform.lease.clone()), durability));
    }

    /// Publishes the state of the platform's agent, or of another agent while the platform's agent is disconnected.
    pub(super) fn publish_agent(&mut self, context: &mut InputContext) {
        if let Some(connection) = self.published_agent() {
            self.platform.lease.platform = self.status_of(connection);
            self.publish_state(Durability::Cached, context);
        }
    }

    /// Returns the connection of the agent whose state is published.
    fn published_agent(&self) -> Option<&Connection> {
        let connections = &self.agents.connections;
        let platform_agent =
            self.platform.lease.agent.as_deref().and_then(|agent| connections.get_connection(agent));
        platform_agent.or_else(|| connections.shared_agents().next())
    }

    fn status_of(&self, connection: &Connection) -> PlatformStatus {
        let hello = &connection.hello;
        PlatformStatus::Ready {
            agent: hello.agent.clone(),
            version: hello.version.clone(),
            max_jobs: hello.max_jobs,
            codex: hello.platform.codex.clone(),
            codex_problem: hello
                .platform
                .codex_problem
                .clone()
                .or_else(|| self.platform.model_problem.clone()),
            agents: self.agents.connections.shared_agents().count(),
            vitals: hello.vitals.clone(),
            shortage: self.shortage(&hello.agent),
        }
    }

    /// Handles a change of the reason why workers can't reach their model.
    pub(super) fn on_model_checked(&mut self, problem: Option<String>, context: &mut InputContext) {
        let is_over = problem.is_none() && self.platform.model_problem.is_some();
        self.platform.model_problem = problem;
        self.publish_agent(context);
        if is_over {
            self.on_credentials_changed(context);
        }
    }

    /// Returns the resource of which an agent's machine has too little for another job, if any.
    pub(super) fn shortage(&self, agent: &str) -> Option<Shortage> {
        let vitals = self.agents.connections.get_connection(agent)?.hello.vitals.as_ref()?;
        self.platform.min_free.shortage(vitals)
    }

    /// Handles a measurement of an agent's machine. The next heartbeat publishes the measurement; the beginning and the
    /// end of a shortage are published at once.
    pub(super) fn on_vitals(
        &mut self,
        connection_id: &ConnectionId,
        vitals: MachineVitals,
        context: &mut InputContext,
    ) {
        let agent = &connection_id.agent;
        let connection = self.agents.connections.get_connection(agent);
        let is_box = connection.is_some_and(|connection| connection.holder == HolderKind::Box);
        if is_box || !self.agents.connections.is_current(connection_id) {
            return;
        }
        let had_shortage = self.shortage(agent).is_some();
        self.agents.connections.set_vitals(agent, vitals);
        self.store_platform_vitals(agent, Some(vitals));
        let shortage = self.shortage(agent);
        match &shortage {
            Some(shortage) if !had_shortage => {
                tracing::warn!("agent {agent} gets no jobs: {}", shortage.describe());
            }
            None if had_shortage => tracing::info!("agent {agent} gets jobs again"),
            _ => {}
        }
        if matches!(self.platform.lease.platform, PlatformStatus::Ready { .. })
            && let Some(connection) = self.published_agent()
            && connection.hello.agent == **agent
        {
            self.platform.lease.platform = self.status_of(connection);
            if had_shortage != shortage.is_some() {
                self.publish_state(Durability::Cached, context);
            }
        }
        let actions = self.scheduler.set_low_resources(agent, shortage.is_some());
        self.execute_actions(actions, context);
    }

    /// Publishes the status of a platform without a connected agent.
    pub(super) fn publish_platform_status(&mut self, status: PlatformStatus, context: &mut InputContext) {
        if self.platform.lease.platform != status && !self.agents.connections.has_shared_agent() {
            self.platform.lease.platform = status;
            self.publish_state(Durability::Cached, context);
        }
    }

    /// Starts an attempt to start the platform, unless one is in progress or none is needed.
    pub(super) fn start_attempt_if_needed(&mut self, context: &mut InputContext) {
        self.platform.next_attempt_at = None;
        if self.platform.running_attempt.is_some() || self.is_platform_up() || self.is_stopping_platform() {
            return;
        }
        // A retry after a failure leaves the published status unchanged until the retry succeeds.
        self.platform.running_attempt = Some(StartAttempt::default());
        let has_jobs =
            self.platform_agent().is_some_and(|agent| self.scheduler.agents_with_jobs().contains(&agent));
        context.push(Effect::Engine(EngineEffect::StartPlatform { has_jobs }));
    }

    /// Handles a `relay up`.
    pub(super) fn on_up_requested(&mut self, wall_time: jiff::Timestamp, context: &mut InputContext) {
        tracing::info!("the platform was requested");
        self.container.record_up_request(wall_time);
        let detail = format!("starting {}", self.platform.engine);
        self.publish_platform_status(PlatformStatus::Starting { detail }, context);
        if let Some(attempt) = &mut self.platform.running_attempt {
            attempt.record_up_request(context.now);
        }
        self.start_attempt_if_needed(context);
    }

    /// Handles the outcome of an attempt to start the platform.
    pub(super) fn on_attempt_finished(&mut self, result: Result<(), String>, context: &mut InputContext) {
        let newest_event = self.platform.running_attempt.take().and_then(|attempt| attempt.newest_event);
        if self.is_stopping_platform() {
            return self.stop_platform_if_settled(context);
        }
        match (newest_event, &result) {
            (Some(AttemptEvent::ContainerStopped), _) if self.scheduler.is_empty() => {
                return self.on_container_stopped(context);
            }
            (Some(AttemptEvent::ContainerStopped), _) => {
                tracing::info!("a job arrived while the container was stopping: starting it again");
                return self.start_attempt_if_needed(context);
            }
            (Some(AttemptEvent::ContainerExited { retry_at }), _) => {
                self.platform.next_attempt_at = Some(retry_at);
                return;
            }
            (Some(AttemptEvent::UpRequested), Err(detail)) => {
                tracing::info!("requested again meanwhile, so it is retried: {detail}");
                return self.start_attempt_if_needed(context);
            }
            _ => {}
        }
        match result {
            Err(detail) => {
                tracing::warn!("no platform: {detail}");
                self.publish_platform_status(PlatformStatus::Failed { detail }, context);
                self.platform.next_attempt_at = Some(context.now + RETRY_PAUSE);
            }
            Ok(()) if !self.agents.connections.has_shared_agent() => {
                let detail = "waiting for the agent to connect".to_owned();
                self.publish_platform_status(PlatformStatus::Starting { detail }, context);
                self.platform.next_attempt_at = Some(context.now + CONNECT_TIMEOUT);
            }
            Ok(()) => {}
        }
        if self.platform.gateway == GatewayState::Unknown {
            self.platform.gateway = GatewayState::Queried;
            context.push(Effect::Engine(EngineEffect::OpenGateway));
        }
    }

    /// Publishes the address at which containers reach this host. If there is none, the next start of the platform
    /// queries the engine again.
    pub(super) fn on_gateway_opened(&mut self, address: Option<SocketAddr>, context: &mut InputContext) {
        let Some(address) = address else {
            self.platform.gateway = GatewayState::Unknown;
            return;
        };
        self.platform.gateway = GatewayState::Bound;
        self.platform.lease.listen.push(address);
        self.publish_state(Durability::Cached, context);
    }
}
