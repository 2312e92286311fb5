//! Carries out the core's effects, in order. Commands to the writer wait while its queue is full.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::ids::JobId;
use common::wire::RelayFrame;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::core::{
    Admission, AgentId, ConnectionId, ConnectionNumber, Effect, EngineEffect, Input, LimitEffect,
    LimitRequest, refusal,
};
use super::deliver::Deliveries;
use super::driver::World;
use super::message::Message;
use super::platform::{self, Platform};
use super::upgrade::AppState;
use super::writer::Command;
use super::{listen, request_files};
use crate::files::atomic::Durability;
use crate::policy::Policy;
use crate::registry::lease::{self, Lease};
use crate::registry::prune::{Retention, prune};
use crate::registry::requests::{self, Filed};
use crate::registry::{Registry, read};
use crate::state_dir::StateDir;
use crate::state_dir::saved_state::SavedState;
use crate::time::{self, Clock};

/// Everything that the core's effects reach.
pub(super) struct Executor {
    pub(super) registry: Registry,
    /// Lock file, held locked for as long as the daemon lives.
    pub(super) lock: File,
    /// State folder of the next relay: what it needs to know of this one.
    pub(super) state: StateDir,
    /// State as last stored in the state folder.
    pub(super) saved: SavedState,
    pub(super) app: AppState,
    pub(super) platform: Platform,
    /// Limits on what a job's spec may ask for.
    pub(super) policy: Policy,
    pub(super) deliveries: Deliveries,
    /// Queue of frames to each connection that the core knows. Dropping it ends the connection.
    pub(super) outbound: BTreeMap<ConnectionNumber, mpsc::Sender<RelayFrame>>,
    /// The agent whose message is handled waits here for its admission.
    pub(super) admission: Option<oneshot::Sender<Admission>>,
}

impl World for Executor {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> Timestamp {
        time::now()
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn clock(&self) -> &Clock {
        &self.app.clock
    }

    fn requests(&self) -> io::Result<Vec<Filed>> {
        // Anything else in place of the folder is removed, so that the next request finds a folder.
        requests::pending(&self.registry).or_else(|e| {
            self.registry.ensure().map_err(|_| e)?;
            requests::pending(&self.registry)
        })
    }

    async fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Admit(admission) => self.admit(admission),
            Effect::Send { to, frame } => return self.send(to, frame),
            Effect::Offer { job, epoch, agent, connection } => {
                return self.offer(job, epoch, agent, connection).await;
            }
            Effect::Close(number) => drop(self.outbound.remove(&number)),
            Effect::RevokeAgent(agent) => self.app.tokens.revoke_agent(&agent),
            Effect::RevokeTokens => self.app.tokens.revoke_all(),
            Effect::Adopt(job) => self.write(Command::Adopt(job)).await,
            Effect::Record { job, body } => self.write(Command::Own { job, body: Box::new(body) }).await,
            Effect::DropEnv(job) => self.write(Command::DropEnv(job)).await,
            Effect::Left(connection_id) => self.write(Command::Left(connection_id)).await,
            Effect::Flush => drop(self.flush().await),
            Effect::SaveState(state, durability) => self.save_state(*state, durability),
            Effect::PublishLease(lease, durability) => self.publish(&lease, durability),
            Effect::FollowWallClock => {
                self.app.clock.set_by_wall_clock();
                return Some(Input::ClockSet(self.app.clock.boot_scale()));
            }
            Effect::RemoveRequest(path) => request_files::remove(&self.registry, &path),
            Effect::RemoveCancel { path, job } => request_files::remove_cancel(&self.registry, &path, &job),
            Effect::Prune { path, keep } => spawn_prune(&self.registry, &path, keep),
            Effect::Limit(effect) => return self.limit(effect).await,
            Effect::Engine(effect) => return self.call_engine(effect).await,
            Effect::Notify(record) => self.deliveries.ended(*record),
            Effect::CloseSubscribers => self.app.subscribers.close().await,
        }
        None
    }
}

impl Executor {
    /// Returns true if the registry is still the one that this daemon has locked.
    pub(super) fn holds_registry(&self) -> bool {
        lease::is_mine(&self.registry, &self.lock)
    }

    /// Keeps the channels of a message and returns its input.
    pub(super) fn receive(&mut self, message: Message) -> Input {
        match message {
            Message::Register { agent, reply } => {
                self.admission = Some(reply);
                Input::Register(agent)
            }
            Message::Connected { connection, outbound } => {
                self.outbound.insert(connection.number, outbound);
                Input::Connected(connection)
            }
            Message::Input(input) => input,
        }
    }

    pub(super) async fn write(&self, command: Command) {
        self.app.writer.send(command).await;
    }

    /// Waits until everything that was sent to the writer is on disk.
    pub(super) async fn flush(&self) -> Result<(), oneshot::error::RecvError> {
        let (reply, flushed) = oneshot::channel();
        self.write(Command::Flush(reply)).await;
        flushed.await
    }

    fn admit(&mut self, admission: Admission) {
        if let Some(reply) = self.admission.take() {
            // The connection may have ended meanwhile.
            let _ = reply.send(admission);
        }
    }

    /// Queues a frame; returns false if the connection has ended or its queue is full.
    fn queue(&self, to: &ConnectionId, frame: RelayFrame) -> bool {
        self.outbound.get(&to.number).is_some_and(|outbound| outbound.try_send(frame).is_ok())
    }

    /// Queues a frame. A connection that takes none is reported.
    fn send(&self, to: ConnectionId, frame: RelayFrame) -> Option<Input> {
        (!self.queue(&to, frame)).then_some(Input::NotSent(to))
    }

    async fn offer(
        &mut self,
        job: JobId,
        epoch: u32,
        agent: AgentId,
        connection: Option<ConnectionId>,
    ) -> Option<Input> {
        match self.spec(&job) {
            Ok(spec) => {
                self.write(Command::Offer { job: job.clone(), agent }).await;
                connection.and_then(|to| self.send(to, RelayFrame::Start { job, epoch, spec }))
            }
            Err(reason) => {
                self.write(Command::Own { job, body: Box::new(refusal(reason)) }).await;
                None
            }
        }
    }

    /// Reads the spec of a job.
    fn spec(&self, job: &JobId) -> Result<String, String> {
        let read = self.registry.spec(job).read_text(read::MAX_FILE_SIZE);
        let read = read.map_err(|e| format!("its spec can't be read ({e}): launch it again"));
        let record = read::load(&self.registry, job).map(|stored| stored.record);
        let host = record.map(|record| record.workspace).unwrap_or_default();
        // A session may have written either, so the spec is checked.
        read.and_then(|spec| self.policy.authorize_text(job, &spec, &host))
    }

    /// Stores what the next relay needs to know, if that has changed.
    pub(super) fn save_state(&mut self, state: SavedState, durability: Durability) {
        if state == self.saved {
            return;
        }
        match state.store(&self.state, durability) {
            Ok(()) => self.saved = state,
            Err(e) => tracing::error!("the state folder can't be written: {e}"),
        }
    }

    fn publish(&self, lease: &Lease, durability: Durability) {
        if let Err(e) = lease::write(&self.registry, lease, durability) {
            tracing::error!("the lease can't be written: {e}");
        }
    }

    /// Advances requests to move limits. Returns the answer, if there is one.
    async fn limit(&self, effect: LimitEffect) -> Option<Input> {
        let amend = |request: &LimitRequest| request_files::amend(&self.registry, request);
        match effect {
            LimitEffect::Inspect(queries) => {
                let facts = queries.into_iter().map(|query| request_files::inspect(&self.registry, query));
                Some(Input::LimitsInspected(facts.collect()))
            }
            LimitEffect::Send { path, to, frame } => {
                self.queue(&to, frame).then_some(Input::LimitSent { path, connection: to.number })
            }
            LimitEffect::Amend(request) => amend(&request).then_some(Input::RequestAmended(request)),
            LimitEffect::Promise(request) => amend(&request).then_some(Input::LimitPromised(request)),
            LimitEffect::Move { path, job, job_ms } => self.move_limit(path, job, job_ms).await,
        }
    }

    async fn move_limit(&self, path: PathBuf, job: JobId, job_ms: u64) -> Option<Input> {
        self.write(Command::MoveLimit { job: job.clone(), job_ms }).await;
        let is_written = self.flush().await.is_ok();
        let is_moved = is_written && request_files::spec_ms(&self.registry, &job) == Some(job_ms);
        is_moved.then_some(Input::LimitMoved(path))
    }

    async fn call_engine(&self, effect: EngineEffect) -> Option<Input> {
        let (platform, core) = (self.platform.clone(), self.app.core.clone());
        match effect {
            EngineEffect::Ensure => drop(tokio::spawn(async move {
                let result = platform::bring_up(&platform, &core).await;
                let _ = core.send(Input::Ensured(result).into()).await;
            })),
            EngineEffect::Stop => drop(tokio::spawn(async move {
                let _ = core.send(Input::Stopped(platform.stop().await).into()).await;
            })),
            EngineEffect::StopNow => drop(platform.stop().await),
            EngineEffect::OpenGateway => {
                let app = self.app.clone();
                drop(tokio::spawn(async move {
                    let address = platform.gateway().await.and_then(|listener| {
                        let address = listener.local_addr().ok()?;
                        listen::spawn(listener, app);
                        Some(address)
                    });
                    let _ = core.send(Input::Gateway(address).into()).await;
                }));
            }
            EngineEffect::FindAgent { reason } => {
                return Some(Input::AgentFound { runs: platform.agent_runs(), reason });
            }
        }
        None
    }
}

/// Attempts to lock the request. Together far longer than the instant between the creation of a request and its
/// writer's unlock.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Starts to carry out a prune request. The request stays filed until the work is done, which the requesting command
/// waits for; further calls meanwhile change nothing.
fn spawn_prune(registry: &Registry, request: &Path, keep: Retention) {
    let (registry, request) = (registry.clone(), request.to_owned());
    tokio::task::spawn_blocking(move || {
        // Locked during the work: further calls find the request locked until then.
        let Ok(turn) = requests::file_of(&registry, &request).open() else { return };
        // Its writer releases the lock an instant after creating it; a relay that prunes holds it for longer.
        let mut tries = (0..LOCK_TRIES).map(|_| turn.try_lock().is_ok());
        if !tries.any(|locked| {
            if !locked {
                std::thread::park_timeout(LOCK_PAUSE);
            }
            locked
        }) {
            return;
        }
        match prune(&registry, &keep) {
            Ok(jobs) => tracing::info!("{} archived jobs were removed", jobs.len()),
            Err(e) => tracing::error!("archived jobs can't be removed: {e}"),
        }
        if let Err(e) = requests::remove(&registry, &request) {
            tracing::error!("{} can't be removed: {e}", request.display());
        }
    });
}
