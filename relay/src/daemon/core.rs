//! The core: owns the queue, the lease and the agents' connections, and acts on what the pure [`Scheduler`] decides.
//!
//! ```text
//!  platform:  Starting ──an agent connects──► Ready ──the last one is gone──► Starting ──ensure fails──► Failed
//!                 ▲                                                              ▲            │ RETRY_PAUSE, or `relay up`
//!                 └──────────────────────────────────────────────────────────────┴────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use common::ids::JobId;
use common::record::JobRecord;
use common::wire::RelayFrame;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::connections::Connections;
use super::core_container::ContainerTracker;
use super::core_platform::Attempt;
use super::deliver::Deliveries;
use super::disconnects::DisconnectTracker;
use super::extend::{Extensions, LimitRequest};
use super::message::{ConnectionHandle, Input};
use super::platform::Platform;
use super::scheduler::{Action, AgentId, Scheduler, refusal};
use super::upgrade::AppState;
use super::writer::{Command, WriterHandle};
use crate::files::atomic::Durability;
use crate::policy::Policy;
use crate::registry::lease::{self, Lease, PlatformStatus};
use crate::registry::{Registry, read};
use crate::state_dir::StateDir;
use crate::state_dir::saved_state::SavedState;

/// Interval between two heartbeats in the lease; also the longest delay until a job whose hint was lost is found.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time for the agent to connect once it is configured; its longest pause between tries is 5 s.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before the next attempt to bring up a platform that failed.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// Time for the platform's last events to arrive after `down` has stopped it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Result of one turn of the main loop: go on or exit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The daemon goes on.
    Continue,
    /// `relay down` is done, or the registry is gone.
    Down,
}

/// State of the listener on the address under which containers reach this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gateway {
    /// The engine has not been asked for the address.
    Unknown,
    /// The engine was asked.
    Asked,
    /// The daemon listens on the address.
    Bound,
}

/// Shutdown state of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// The daemon goes on.
    No,
    /// Another daemon takes over: this one ends and leaves everything else.
    HandingOver,
    /// The daemon ends with its platform.
    Down,
    /// The daemon ends, and nothing of the platform is left on its engine.
    Stopped,
}

pub(super) struct Core {
    pub(super) registry: Registry,
    pub(super) lease: Lease,
    /// State folder of the next relay: what it needs to know of this one.
    pub(super) state: StateDir,
    /// Memory as last stored in the state folder.
    pub(super) saved: SavedState,
    /// Lock file, held locked for as long as the daemon lives.
    pub(super) lock: std::fs::File,
    pub(super) app: AppState,
    pub(super) platform: Platform,
    /// Limits on what a job's spec may ask for.
    pub(super) policy: Policy,
    pub(super) scheduler: Scheduler,
    pub(super) agents: Connections,
    pub(super) disconnects: DisconnectTracker,
    /// Requests to move limits, oldest first, each with its progress.
    pub(super) limit_requests: Vec<LimitRequest>,
    pub(super) extensions: Extensions,
    /// Jobs of the registry that are already known and need no further look.
    pub(super) known: BTreeSet<JobId>,
    /// Next attempt to bring up the platform, unless an agent connects before.
    pub(super) next_try: Option<Instant>,
    /// The attempt to bring up the platform that is under way.
    pub(super) attempt: Option<Attempt>,
    pub(super) shutdown: Shutdown,
    pub(super) gateway: Gateway,
    /// Set once the warning about a changed wall clock was logged.
    pub(super) clock_was_set: bool,
    /// Deadline for last events during `down`.
    pub(super) down_deadline: Option<Instant>,
    pub(super) container: ContainerTracker,
    pub(super) deliveries: Deliveries,
}

impl Core {
    /// Returns true if the platform is being stopped or has stopped.
    pub(super) fn is_going_down(&self) -> bool {
        matches!(self.shutdown, Shutdown::Down | Shutdown::Stopped)
    }

    pub(super) fn writer(&self) -> &WriterHandle {
        &self.app.writer
    }

    pub(super) fn inputs(&self) -> &mpsc::Sender<Input> {
        &self.app.core
    }

    /// Adopts the jobs found at startup. Their agents count as disconnected since the last daemon ended.
    pub(super) async fn adopt(&mut self, active: &[JobRecord]) {
        for record in active {
            self.known.insert(record.job.clone());
            let actions = self.scheduler.update(record);
            self.perform(actions).await;
        }
        for agent in self.scheduler.agents_with_jobs() {
            let actions = self.scheduler.agent_down(&agent, "the relay was started anew");
            self.disconnects.disconnected(agent, Instant::now());
            self.perform(actions).await;
        }
        self.adopt_exit();
    }

    pub(super) async fn handle(&mut self, input: Input) -> Flow {
        match input {
            Input::Register { agent, reply } => {
                // The connection may have ended meanwhile.
                let number = self.agents.register(&agent);
                let _ = reply.send(number.map(|number| (number, self.termination_cause(&agent))));
            }
            Input::Connected(connection) => self.connected(connection).await,
            Input::Disconnected { connection_id, reason } => {
                self.connection_closed(connection_id, &reason).await;
            }
            Input::Accepted { connection_id, job, epoch } => self.accepted(&connection_id, job, epoch).await,
            Input::Refused { connection_id, job, reason, busy } => {
                if self.agents.is_current(&connection_id) {
                    let actions = self.scheduler.refused(&connection_id.agent, &job, reason, busy);
                    self.perform(actions).await;
                }
            }
            Input::Frozen(time) => self.record_freeze(time).await,
            Input::RequestFiled => self.apply_requests().await,
            Input::Container(news) => self.container_changed(news).await,
            Input::Ensured(result) => self.platform_ensured(result),
            Input::Gateway(listener) => self.listen_on_gateway(listener),
            Input::Stopped(result) => {
                match result {
                    Ok(()) => self.shutdown = Shutdown::Stopped,
                    Err(reason) => tracing::error!("the platform could not be stopped: {reason}"),
                }
                self.down_deadline = Some(Instant::now() + DRAIN_TIMEOUT);
            }
        }
        self.flow()
    }

    /// Handles records that the writer has changed.
    pub(super) async fn changed(&mut self, records: BTreeMap<JobId, JobRecord>) -> Flow {
        for record in records.values() {
            let actions = self.scheduler.update(record);
            self.perform(actions).await;
        }
        if !self.limit_requests.is_empty() {
            self.move_limits().await;
        }
        self.forget_exit();
        for record in records.into_values() {
            self.deliveries.ended(record);
        }
        self.flow()
    }

    /// Runs the periodic work: the heartbeat, lost hints, and retries for a platform that is down.
    pub(super) async fn tick(&mut self) -> Flow {
        if !lease::is_mine(&self.registry, &self.lock) {
            tracing::error!("the registry was removed or replaced: ending");
            // Its jobs belong to the registry that is gone, and no other relay would look for this platform.
            if self.platform.engine() == crate::engine_kind::EngineKind::Local {
                let _ = self.platform.stop().await;
                self.app.tokens.revoke_all();
            }
            return Flow::Down;
        }
        self.lease.heartbeat_at = self.app.clock.now();
        self.publish(Durability::Cached);
        if let Err(e) = self.find_new_jobs().await {
            tracing::error!("the registry can't be read: {e}");
        }
        self.follow_wall_clock().await;
        self.apply_requests().await;
        self.expire_disconnected().await;
        let actions = self.scheduler.retry();
        self.perform(actions).await;
        self.container_tick().await;
        if self.next_try.is_some_and(|at| at <= Instant::now()) {
            self.try_platform();
        }
        self.flow()
    }

    /// Adopts a wall clock that was set, unless a job exists whose ages that would change.
    async fn follow_wall_clock(&mut self) {
        let idle = self.scheduler.is_empty();
        let Some(ahead_ms) = self.app.clock.was_set() else {
            self.clock_was_set = false;
            return;
        };
        let span = common::duration::short(ahead_ms.unsigned_abs());
        let order = if ahead_ms > 0 { "ahead" } else { "back" };
        if !idle {
            if !self.clock_was_set {
                tracing::warn!(
                    "the clock of this machine was set {span} {order}: followed when no job is left"
                );
            }
            self.clock_was_set = true;
            return;
        }
        tracing::warn!("the clock of this machine was set {span} {order}");
        self.app.clock.set_by_wall_clock();
        self.lease.clock = self.app.clock.boot_scale();
        // Agents receive the time when they connect.
        while let Some(connection_id) = self.agents.first().map(ConnectionHandle::connection_id) {
            let actions = self.drop_connection(&connection_id, "the clock of this machine was set");
            self.perform(actions).await;
        }
    }

    fn flow(&self) -> Flow {
        let waited = self.down_deadline.is_some_and(|deadline| deadline <= Instant::now());
        let told = self.down_deadline.is_some() && (self.scheduler.is_idle() || self.agents.is_empty());
        if waited || told || self.shutdown == Shutdown::HandingOver { Flow::Down } else { Flow::Continue }
    }

    pub(super) fn publish(&mut self, durability: Durability) {
        self.save_state(durability);
        if let Err(e) = lease::write(&self.registry, &self.lease, durability) {
            tracing::error!("the lease can't be written: {e}");
        }
    }

    /// Stores what the next relay needs to know, if that has changed.
    pub(super) fn save_state(&mut self, durability: Durability) {
        let own = self.platform.engine();
        let mut engines = self.saved.engines.clone();
        engines.retain(|engine| *engine != own);
        engines.extend((own.is_container() && self.shutdown != Shutdown::Stopped).then_some(own));
        let saved = SavedState {
            engines,
            port: self.lease.listen.first().map(std::net::SocketAddr::port),
            agent: self.lease.agent.clone(),
            death: self.lease.death.clone(),
            clock: self.lease.clock.clone(),
        };
        if saved == self.saved {
            return;
        }
        match saved.store(&self.state, durability) {
            Ok(()) => self.saved = saved,
            Err(e) => tracing::error!("the state folder can't be written: {e}"),
        }
    }

    pub(super) async fn perform(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Start { agent, job, epoch } => {
                    if let Some(spec) = self.spec(&job).await {
                        let (speaker, its) = (agent.clone(), job.clone());
                        self.writer().send(Command::Offer { job: its, agent: speaker }).await;
                        actions.extend(self.send(&agent, RelayFrame::Start { job, epoch, spec }));
                    }
                }
                Action::Cancel { agent, job, grace_ms } => {
                    actions.extend(self.send(&agent, RelayFrame::Cancel { job, grace_ms }));
                }
                Action::Reconnect { agent } => {
                    if let Some(connection_id) = self.agents.get(&agent).map(ConnectionHandle::connection_id)
                    {
                        actions.extend(self.drop_connection(
                            &connection_id,
                            "the files of one of its jobs can be read again",
                        ));
                    }
                }
                Action::Record { job, body } => {
                    self.writer().send(Command::Own { job, body: Box::new(body) }).await;
                }
            }
        }
    }

    /// Reads the spec of a job; a job without a valid spec ends.
    async fn spec(&self, job: &JobId) -> Option<String> {
        let read = self.registry.spec(job).read_text(read::MAX_FILE_SIZE);
        let read = read.map_err(|e| format!("its spec can't be read ({e}): launch it again"));
        let record = read::load(&self.registry, job).map(|stored| stored.record);
        let host = record.map(|record| record.workspace).unwrap_or_default();
        // A session may have written either, so the spec is checked.
        match read.and_then(|spec| self.policy.authorize_text(job, &spec, &host)) {
            Ok(spec) => Some(spec),
            Err(reason) => {
                let body = refusal(reason);
                self.writer().send(Command::Own { job: job.clone(), body: Box::new(body) }).await;
                None
            }
        }
    }

    /// Sends a frame to an agent. Drops a connection that accepts no frame, and returns the actions that follow.
    fn send(&mut self, agent: &AgentId, frame: RelayFrame) -> Vec<Action> {
        match self.agents.get(agent) {
            Some(connection) if !connection.send(frame) => {
                let connection_id = connection.connection_id();
                self.drop_connection(&connection_id, "it takes no frames any more")
            }
            _ => Vec::new(),
        }
    }

    /// Flushes the writer and closes the subscribers before the process ends.
    pub(super) async fn close(&mut self) {
        let (reply, flushed) = oneshot::channel();
        self.writer().send(Command::Flush(reply)).await;
        let _ = flushed.await;
        self.app.subscribers.close().await;
        if self.is_going_down() {
            self.agents.clear();
            self.app.tokens.revoke_all();
            self.set_platform(PlatformStatus::Stopped);
        }
    }
}
