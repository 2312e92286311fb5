//! Executes the core's effects, in order. Commands to the writer wait while the writer's queue is full.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::job::JobSpec;
use common::record::JobRecord;
use common::wire::{PROTOCOL, RelayFrame};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::app_state::AppState;
use super::boxes::{self, BoxJob};
use super::core::{
    Admission, AgentId, ConnectionId, ConnectionNumber, Effect, EngineEffect, Input, LimitEffect,
    LimitRequest, dependency_failed_event, refused_event,
};
use super::deliver::DeliveryThread;
use super::driver::CoreEnvironment;
use super::listen::Listener;
use super::message::Message;
use super::model_access::ModelAccess;
use super::platform::{self, Platform};
use super::results::ResultPublisher;
use super::start_frame::start_frame;
use super::writer::WriterCommand;
use super::{listen, request_files};
use crate::files::atomic::Durability;
use crate::job_box::BoxId;
use crate::policy::JobPolicy;
use crate::registry::lease::{self, Lease};
use crate::registry::prune::{Retention, prune_archive};
use crate::registry::requests::{self, FiledRequest};
use crate::registry::{Registry, read};
use crate::state_dir::StateDir;
use crate::state_dir::saved_state::SavedState;
use crate::state_dir::threads::Threads;
use crate::time::{self, Clock};

/// Executor of the core's effects.
pub(super) struct Executor {
    pub(super) registry: Registry,
    /// Lock file of the registry, locked while the daemon lives.
    pub(super) lock_file: File,
    /// State folder, with the state that is saved for the next relay.
    pub(super) state_dir: StateDir,
    /// State that was last stored in the state folder.
    pub(super) saved_state: SavedState,
    pub(super) app: AppState,
    pub(super) platform: Platform,
    /// Limits on what a job's spec may ask for.
    pub(super) policy: JobPolicy,
    /// Access to the model, if jobs that start now reach it through this relay.
    pub(super) new_jobs_model: Option<ModelAccess>,
    pub(super) deliveries: DeliveryThread,
    /// Publisher of the results of jobs with a clone of their own.
    pub(super) results: ResultPublisher,
    /// Queue of frames to each connection that the core knows. Dropping a queue ends the connection.
    pub(super) outbound_queues: BTreeMap<ConnectionNumber, OutboundQueue>,
    /// Channel for the answer to the agent that waits for its admission.
    pub(super) admission_reply: Option<oneshot::Sender<Admission>>,
}

/// Queue of frames to a connection.
pub(super) struct OutboundQueue {
    frames: mpsc::Sender<RelayFrame>,
    /// Newest protocol version that the connection's agent speaks.
    protocol: u32,
}

impl CoreEnvironment for Executor {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_time(&self) -> Timestamp {
        time::now()
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn clock(&self) -> &Clock {
        &self.app.clock
    }

    fn requests(&self) -> io::Result<Vec<FiledRequest>> {
        // If an entry that is not a folder has replaced the requests folder, the folder is created again, so that the
        // next request can be filed.
        requests::pending_requests(&self.registry).or_else(|e| {
            self.registry.ensure().map_err(|_| e)?;
            requests::pending_requests(&self.registry)
        })
    }

    async fn perform_effect(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Admit(admission) => self.answer_admission(admission),
            Effect::Send { to, frame } => return self.send_frame(to, frame),
            Effect::Offer { job, epoch, agent, connection } => {
                return self.offer(job, epoch, agent, connection).await;
            }
            Effect::Close(number) => drop(self.outbound_queues.remove(&number)),
            Effect::FindRevoked(agents) => {
                let agents = agents.iter().map(ToString::to_string).collect();
                let revoked = self.app.tokens.agents_without_token(agents);
                return Some(Input::Revoked(revoked.iter().map(|agent| agent.as_str().into()).collect()));
            }
            Effect::RevokeTokens => self.app.tokens.revoke_all(),
            Effect::ReadDependencies(jobs) => {
                let lacks_result = |record: &JobRecord| self.results.lacks_result(record);
                let states = request_files::read_dependencies(&self.registry, jobs, lacks_result);
                return Some(Input::DependenciesRead(states));
            }
            Effect::OpenJob(job) => self.send_to_writer(WriterCommand::OpenJob(job)).await,
            Effect::Record { job, body } => {
                self.send_to_writer(WriterCommand::RecordRelayEvent { job, body: Box::new(body) }).await;
            }
            Effect::WarnOfSharedExpectations { job, other } => {
                if let Some(message) = request_files::shared_expectations(&self.registry, &job, &other) {
                    let body = Box::new(EventBody::Warning { message });
                    self.send_to_writer(WriterCommand::RecordRelayEvent { job, body }).await;
                }
            }
            Effect::RemoveEnvValues(job) => self.send_to_writer(WriterCommand::RemoveEnvValues(job)).await,
            Effect::RemoveConnection(connection_id) => {
                self.send_to_writer(WriterCommand::RemoveConnection(connection_id)).await;
            }
            Effect::FlushWriter => drop(self.flush().await),
            Effect::SaveState(state, durability) => self.save_state(*state, durability),
            Effect::PublishLease(lease, durability) => self.publish_lease(&lease, durability),
            Effect::FollowWallClock => {
                self.app.clock.set_by_wall_clock();
                return Some(Input::ClockSet(self.app.clock.boot_scale()));
            }
            Effect::RemoveRequest(path) => request_files::remove_request(&self.registry, &path),
            Effect::RemoveCancel { path, job } => request_files::remove_cancel(&self.registry, &path, &job),
            Effect::Prune { path, keep } => {
                let threads = self.platform.threads.clone();
                spawn_prune(&self.registry, (&self.results, threads), &path, keep);
            }
            Effect::ExtendLimit(effect) => return self.perform_limit_effect(effect).await,
            Effect::Engine(effect) => return self.call_engine(effect).await,
            Effect::SetResultState { path, job, commit, state } => {
                self.results.set_result_state(&job, &commit, state).await;
                drop(self.flush().await);
                request_files::remove_request(&self.registry, &path);
            }
            Effect::Notify(record) => self.notify(*record),
            Effect::CloseSubscribers => self.app.subscribers.close().await,
        }
        None
    }
}

impl Executor {
    /// Returns true if the registry is still the one that this daemon has locked.
    pub(super) fn holds_registry(&self) -> bool {
        lease::is_current_lock(&self.registry, &self.lock_file)
    }

    /// Stores the channels that a message carries, and returns the message's input for the core.
    pub(super) fn accept_message(&mut self, message: Message) -> Input {
        match message {
            Message::Register { agent, reply } => {
                self.admission_reply = Some(reply);
                Input::Register(agent)
            }
            Message::Connected { connection, outbound } => {
                let queue = OutboundQueue { frames: outbound, protocol: connection.hello.protocol_max };
                self.outbound_queues.insert(connection.number, queue);
                Input::Connected(connection)
            }
            Message::Input(input) => input,
        }
    }

    pub(super) async fn send_to_writer(&self, command: WriterCommand) {
        self.app.writer.send(command).await;
    }

    /// Waits until everything that was sent to the writer is on disk.
    pub(super) async fn flush(&self) -> Result<(), oneshot::error::RecvError> {
        let (reply, flushed) = oneshot::channel();
        self.send_to_writer(WriterCommand::Flush(reply)).await;
        flushed.await
    }

    fn answer_admission(&mut self, admission: Admission) {
        if let Some(reply) = self.admission_reply.take() {
            // The send fails if the connection has ended meanwhile.
            let _ = reply.send(admission);
        }
    }

    /// Queues a frame; returns false if the connection has ended or its queue is full.
    fn queue_frame(&self, to: &ConnectionId, frame: RelayFrame) -> bool {
        self.outbound_queues.get(&to.number).is_some_and(|outbound| outbound.frames.try_send(frame).is_ok())
    }

    /// Queues a frame. If the connection does not accept it, returns the input that reports this.
    fn send_frame(&self, to: ConnectionId, frame: RelayFrame) -> Option<Input> {
        (!self.queue_frame(&to, frame)).then_some(Input::FrameNotSent(to))
    }

    /// Delivers the notices of a job that has ended. A result that is not recorded yet is published first.
    fn notify(&self, record: JobRecord) {
        if let Some(model) = &self.app.model {
            model.remove_job(&record.job);
        }
        if let Some(network) = &self.app.network {
            network.remove_job(&record.job);
        }
        if !self.results.publish_if_missing(&record) {
            self.deliveries.queue_ended_job(record);
        }
    }

    async fn offer(
        &mut self,
        job: JobId,
        epoch: u32,
        agent: AgentId,
        connection: Option<ConnectionId>,
    ) -> Option<Input> {
        if let Err(reason) = self.write_base_commit(&job).await {
            let body = Box::new(dependency_failed_event(reason));
            self.send_to_writer(WriterCommand::RecordRelayEvent { job, body }).await;
            return None;
        }
        let offer = self.load_authorized_spec(&job).and_then(|spec| {
            let frame = match &connection {
                Some(to) => Some(self.start_frame(to, (job.clone(), epoch), spec.clone())?),
                None => None,
            };
            Ok((spec, frame))
        });
        match offer {
            Ok((spec, frame)) => {
                self.app.repositories.prepare_in_background(&job, &spec);
                self.send_to_writer(WriterCommand::AssignOffer { job, agent }).await;
                connection.zip(frame).and_then(|(to, frame)| self.send_frame(to, frame))
            }
            Err(reason) => {
                self.send_to_writer(WriterCommand::RecordRelayEvent {
                    job,
                    body: Box::new(refused_event(reason)),
                })
                .await;
                None
            }
        }
    }

    fn start_frame(&self, to: &ConnectionId, run: (JobId, u32), spec: String) -> Result<RelayFrame, String> {
        let protocol = self.outbound_queues.get(&to.number).map_or(PROTOCOL, |queue| queue.protocol);
        start_frame(protocol, self.new_jobs_model.as_ref(), run, spec)
    }

    /// Writes the commit that a job starts from into the job's spec, if it is another job's result, unknown at the
    /// launch.
    async fn write_base_commit(&self, job: &JobId) -> Result<(), String> {
        let Some(base_job) = request_files::unresolved_base(&self.registry, job) else { return Ok(()) };
        let commit = request_files::result_commit(&self.registry, &base_job)?;
        self.send_to_writer(WriterCommand::WriteSpecBase { job: job.clone(), commit }).await;
        let is_written = self.flush().await.is_ok();
        if is_written && request_files::unresolved_base(&self.registry, job).is_none() {
            return Ok(());
        }
        Err(format!(
            "the commit of {base_job}, from which this job starts, can't be written into this job's spec: launch this job \
             again"
        ))
    }

    fn load_authorized_spec(&self, job: &JobId) -> Result<String, String> {
        let read = self.registry.spec(job).read_text(read::MAX_FILE_SIZE);
        let read = read.map_err(|e| format!("its spec can't be read ({e}): launch it again"));
        let record = read::load_record(&self.registry, job).map(|stored| stored.record);
        let host_workspace = record.map(|record| record.workspace).unwrap_or_default();
        // The spec is checked, because a session may have written it.
        read.and_then(|spec| self.policy.authorize_text(job, &spec, &host_workspace))
    }

    /// Stores the state for the next relay, if it has changed.
    pub(super) fn save_state(&mut self, state: SavedState, durability: Durability) {
        if state == self.saved_state {
            return;
        }
        match state.store(&self.state_dir, durability) {
            Ok(()) => self.saved_state = state,
            Err(e) => tracing::error!("the state folder can't be written: {e}"),
        }
    }

    fn publish_lease(&self, lease: &Lease, durability: Durability) {
        if let Err(e) = lease::write_lease(&self.registry, lease, durability) {
            tracing::error!("the lease can't be written: {e}");
        }
    }

    /// Executes an effect of a request to extend a limit. Returns its answer, if it has one.
    async fn perform_limit_effect(&self, effect: LimitEffect) -> Option<Input> {
        let rewrite = |request: &LimitRequest| request_files::rewrite_request(&self.registry, request);
        match effect {
            LimitEffect::ReadExtensionStates(queries) => {
                let results = queries
                    .into_iter()
                    .map(|query| request_files::read_extension_state(&self.registry, query));
                Some(Input::ExtensionStates(results.collect()))
            }
            LimitEffect::SendRequest { path, to, frame } => self
                .queue_frame(&to, frame)
                .then_some(Input::LimitRequestSent { path, connection: to.number }),
            LimitEffect::RewriteRequest(request) => {
                rewrite(&request).then_some(Input::RequestRewritten(request))
            }
            LimitEffect::StoreTargetLimit(request) => {
                rewrite(&request).then_some(Input::TargetLimitStored(request))
            }
            LimitEffect::WriteSpecLimit { path, job, job_ms } => {
                self.write_spec_limit(path, job, job_ms).await
            }
        }
    }

    async fn write_spec_limit(&self, path: PathBuf, job: JobId, job_ms: u64) -> Option<Input> {
        self.send_to_writer(WriterCommand::WriteSpecLimit { job: job.clone(), job_ms }).await;
        let is_written = self.flush().await.is_ok();
        let is_changed = is_written && request_files::read_spec_limit(&self.registry, &job) == Some(job_ms);
        is_changed.then_some(Input::SpecLimitWritten(path))
    }

    /// Starts the box of a job in the background, unless the job's spec can't be used. Returns that outcome.
    async fn start_box(&self, id: BoxId) -> Option<Input> {
        let job = id.job().clone();
        let spec = self.load_authorized_spec(&job).and_then(|spec| {
            serde_json::from_str::<JobSpec>(&spec).map_err(|e| format!("its spec can't be read: {e}"))
        });
        match spec {
            Ok(spec) => {
                let continued =
                    boxes::continued_job(&spec, request_files::followed_job(&self.registry, &job));
                let job = BoxJob { id, spec, continued };
                boxes::start_in_background(self.platform.clone(), job, self.app.core.clone());
                None
            }
            Err(reason) => {
                let body = Box::new(refused_event(reason.clone()));
                self.send_to_writer(WriterCommand::RecordRelayEvent { job, body }).await;
                Some(Input::BoxStarted { agent: id.agent().as_str().into(), result: Err(reason.into()) })
            }
        }
    }

    async fn call_engine(&self, effect: EngineEffect) -> Option<Input> {
        let (platform, core) = (self.platform.clone(), self.app.core.clone());
        match effect {
            EngineEffect::StartBox(id) => return self.start_box(id).await,
            EngineEffect::RestartBox(id) => boxes::restart_in_background(platform, id, core),
            EngineEffect::RemoveBox(id) => boxes::remove_in_background(platform, id, core),
            EngineEffect::StartPlatform { has_jobs } => drop(tokio::spawn(async move {
                let result = platform::start_platform(&platform, has_jobs, &core).await;
                let _ = core.send(Input::PlatformStarted(result).into()).await;
            })),
            EngineEffect::StopPlatform => drop(tokio::spawn(async move {
                let _ = core.send(Input::PlatformStopped(platform.stop().await).into()).await;
            })),
            EngineEffect::StopPlatformAndWait => drop(platform.stop().await),
            EngineEffect::OpenGateway => {
                let app = self.app.clone();
                drop(tokio::spawn(async move {
                    let address = platform.open_gateway().await.and_then(|listener| {
                        let address = listener.local_addr().ok()?;
                        listen::spawn_server(Listener::Tcp(listener), app);
                        Some(address)
                    });
                    let _ = core.send(Input::GatewayOpened(address).into()).await;
                }));
            }
            EngineEffect::FindLocalAgentProcess { reason } => {
                return Some(Input::LocalAgentProcess { is_running: platform.is_agent_running(), reason });
            }
        }
        None
    }
}

/// Maximum number of attempts to lock a prune request. Together they take much longer than a writer holds the lock.
const MAX_LOCK_ATTEMPTS: u32 = 10;
/// Pause between two attempts to lock a prune request.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Starts to execute a prune request. The request stays filed until the work is done, because the requesting command
/// waits for its removal. A further call for the same request has no effect during that time.
fn spawn_prune(
    registry: &Registry,
    (results, threads): (&ResultPublisher, Threads),
    request: &Path,
    keep: Retention,
) {
    let (registry, results, request) = (registry.clone(), results.clone(), request.to_owned());
    tokio::task::spawn_blocking(move || {
        // The request stays locked during the work, so that further calls do nothing.
        let Ok(file) = requests::request_file(&registry, &request).open() else { return };
        // The writer of a request releases the lock immediately; a relay that prunes holds it longer.
        let mut attempts = (0..MAX_LOCK_ATTEMPTS).map(|_| file.try_lock().is_ok());
        if !attempts.any(|locked| {
            if !locked {
                std::thread::park_timeout(LOCK_PAUSE);
            }
            locked
        }) {
            return;
        }
        match prune_archive(&registry, &keep) {
            Ok(jobs) => {
                results.remove_jobs(&jobs);
                for job in &jobs {
                    if let Err(e) = threads.remove(job) {
                        tracing::warn!("{job}: its Codex thread can't be removed: {e}");
                    }
                }
                tracing::info!("{} archived jobs were removed", jobs.len());
            }
            Err(e) => tracing::error!("archived jobs can't be removed: {e}"),
        }
        if let Err(e) = requests::remove_request(&registry, &request) {
            tracing::error!("{} can't be removed: {e}", request.display());
        }
    });
}
