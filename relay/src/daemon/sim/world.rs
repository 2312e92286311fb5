//! Simulated environment of the core: effects become frames on the simulated network and commands that wait for a
//! commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fs, io};

use common::ids::JobId;
use common::wire::{Durable, Hello, RelayFrame};
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::daemon::core::{AgentId, ConnectionId, DependencyState, Effect, EngineEffect, Input};
use crate::daemon::driver::CoreEnvironment;
use crate::daemon::latest_map::LatestMap;
use crate::daemon::liveness::IdleTimeout;
use crate::daemon::request_files;
use crate::daemon::writer::{Receipt, WriterCommand};
use crate::registry::lease::DaemonId;
use crate::registry::requests::{self, DaemonRequest, FiledRequest};
use crate::registry::{Registry, read};
use crate::state_dir::saved_state::SavedState;
use crate::time::Clock;

/// A bug that the simulation must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A full agent gets offers again only when the end of one of its jobs is recorded.
    FullUntilJobEnds,
    /// A daemon obeys a request to end another daemon.
    ObeysForeignRequest,
    /// A single unreadable job drops the answer to the whole hello.
    DropsWholeHello,
    /// Jobs that work in the same folder run beside each other.
    IgnoresFolders,
    /// A job starts although the job that it waits for has failed.
    FailureCountsAsCompletion,
}

/// Output of the simulated relay to a connection.
#[derive(Debug)]
pub enum Outgoing {
    /// A frame.
    Frame(RelayFrame),
    /// The connection is closed, with the reason.
    Closed(String),
}

/// Simulated environment of the core.
pub(super) struct SimWorld {
    pub(super) registry: Registry,
    pub(super) clock: Clock,
    /// File with the state that the next relay starts with.
    pub(super) state_file: StateFile,
    /// Identity of this daemon in requests.
    pub(super) holder: DaemonId,
    /// Current time, which advances only in [`SimRelay::advance`](super::SimRelay::advance).
    pub(super) now: Instant,
    pub(super) connections: BTreeMap<u64, SimConnection>,
    /// Commands that wait for a commit.
    pub(super) queue: VecDeque<WriterCommand>,
    /// Output that the simulation has not taken yet.
    pub(super) outgoing: Vec<(u64, Outgoing)>,
    pub(super) planted_bug: Option<PlantedBug>,
    /// Agents that have reported that they are full, for [`PlantedBug::FullUntilJobEnds`].
    pub(super) full_agents: BTreeSet<AgentId>,
    /// Id of the only agent with a valid token. A platform that has lost its state gets another agent.
    pub(super) living_agent: String,
}

/// A connection that has sent its hello.
pub(super) struct SimConnection {
    pub(super) id: ConnectionId,
    pub(super) idle_timeout: IdleTimeout,
    pub(super) next_ping: Instant,
    pub(super) hello: Hello,
    pub(super) receipts: LatestMap<JobId, Receipt>,
    /// Answer about the durable state of the agent's jobs, until the agent is welcomed.
    pub(super) durable_answer: Option<oneshot::Receiver<Vec<Durable>>>,
}

impl CoreEnvironment for SimWorld {
    fn now(&self) -> tokio::time::Instant {
        self.now.into()
    }

    fn wall_time(&self) -> Timestamp {
        self.clock.now()
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn requests(&self) -> io::Result<Vec<FiledRequest>> {
        let mut filed = requests::pending_requests(&self.registry)?;
        if self.planted_bug == Some(PlantedBug::ObeysForeignRequest) {
            for request in filed.iter_mut().filter_map(|filed| filed.request.as_mut()) {
                match request {
                    DaemonRequest::Down { relay } => *relay = Some(self.holder.clone()),
                    DaemonRequest::Restart { relay } => *relay = self.holder.clone(),
                    _ => {}
                }
            }
        }
        Ok(filed)
    }

    async fn perform_effect(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Send { to, frame } => self.send(to.number, frame),
            Effect::Offer { job, epoch, agent, connection } => self.offer(job, epoch, agent, connection),
            Effect::FindRevoked(mut agents) => {
                agents.retain(|agent| **agent != *self.living_agent);
                return Some(Input::Revoked(agents));
            }
            Effect::Close(number) => self.close(number, "the relay has closed the connection"),
            Effect::ReadDependencies(jobs) => {
                // No simulated job has its own clone.
                let mut states = request_files::read_dependencies(&self.registry, jobs, |_| false);
                if self.planted_bug == Some(PlantedBug::FailureCountsAsCompletion) {
                    for (_, state) in &mut states {
                        if matches!(state, DependencyState::Ended(_)) {
                            *state = DependencyState::Completed;
                        }
                    }
                }
                return Some(Input::DependenciesRead(states));
            }
            Effect::OpenJob(job) => self.queue.push_back(WriterCommand::OpenJob(job)),
            Effect::Record { job, body } => {
                self.queue.push_back(WriterCommand::RecordRelayEvent { job, body: Box::new(body) });
            }
            Effect::RemoveEnvValues(job) => self.queue.push_back(WriterCommand::RemoveEnvValues(job)),
            Effect::RemoveConnection(connection_id) => {
                self.queue.push_back(WriterCommand::RemoveConnection(connection_id));
            }
            Effect::FollowWallClock => {
                self.clock.set_by_wall_clock();
                return Some(Input::ClockSet(None));
            }
            Effect::RemoveRequest(path)
            | Effect::Prune { path, .. }
            | Effect::SetResultState { path, .. } => {
                request_files::remove_request(&self.registry, &path);
            }
            Effect::RemoveCancel { path, job } => request_files::remove_cancel(&self.registry, &path, &job),
            Effect::Engine(EngineEffect::StartPlatform { .. }) => {
                return Some(Input::PlatformStarted(Ok(())));
            }
            Effect::Engine(EngineEffect::FindLocalAgentProcess { reason }) => {
                return Some(Input::LocalAgentProcess { is_running: true, reason });
            }
            Effect::SaveState(state, _) => self.state_file.store(&state),
            // The simulation has no tokens, no readers of a lease, no subscribers, no receivers of notices and no jobs
            // with expectations, and it extends no limits.
            Effect::Admit(_)
            | Effect::WarnOfSharedExpectations { .. }
            | Effect::RevokeTokens
            | Effect::FlushWriter
            | Effect::PublishLease(..)
            | Effect::ExtendLimit(_)
            | Effect::Engine(
                EngineEffect::StopPlatform
                | EngineEffect::StopPlatformAndWait
                | EngineEffect::OpenGateway
                | EngineEffect::StartBox(_)
                | EngineEffect::RestartBox(_)
                | EngineEffect::RemoveBox(_),
            )
            | Effect::Notify(_)
            | Effect::CloseSubscribers => {}
        }
        None
    }
}

impl SimWorld {
    pub(super) fn send(&mut self, number: u64, frame: RelayFrame) {
        self.outgoing.push((number, Outgoing::Frame(frame)));
    }

    /// Closes a connection, if it has not ended yet.
    pub(super) fn close(&mut self, number: u64, reason: &str) {
        if self.connections.contains_key(&number) {
            self.outgoing.push((number, Outgoing::Closed(reason.to_owned())));
        }
    }

    fn offer(&mut self, job: JobId, epoch: u32, agent: AgentId, connection: Option<ConnectionId>) {
        if self.planted_bug == Some(PlantedBug::FullUntilJobEnds) && self.full_agents.contains(&agent) {
            return;
        }
        let spec = self.registry.spec(&job).read_text(read::MAX_FILE_SIZE).unwrap_or_default();
        self.queue.push_back(WriterCommand::AssignOffer { job: job.clone(), agent });
        if let Some(to) = connection {
            self.send(to.number, RelayFrame::Start { job, epoch, spec });
        }
    }
}

/// File in which a simulated relay stores the state for the next one.
pub(super) struct StateFile {
    path: PathBuf,
}

#[expect(clippy::disallowed_methods, reason = "not a file of the registry")]
impl StateFile {
    /// Returns the state file of the project at `root`.
    pub(super) fn in_project(root: &Path) -> Self {
        Self { path: root.join("saved-state.json") }
    }

    /// Loads the stored state; the default if there is none.
    pub(super) fn load(&self) -> SavedState {
        serde_json::from_slice(&fs::read(&self.path).unwrap_or_default()).unwrap_or_default()
    }

    /// Stores the state. If that fails, the next relay starts without it.
    pub(super) fn store(&self, state: &SavedState) {
        let stored = serde_json::to_vec(state).map(|bytes| fs::write(&self.path, bytes));
        debug_assert!(stored.is_ok_and(|written| written.is_ok()), "the simulated disk accepts the state");
    }
}
