//! Inputs of the core.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use common::hold::Hold;
use common::ids::JobId;
use common::record::JobRecord;
use common::vitals::MachineVitals;
use jiff::Timestamp;
use tokio::time::Instant;

use super::capacity::AgentId;
use super::connections::{Connection, ConnectionId, ConnectionNumber};
use super::dependencies::DependencyState;
use super::extend::{ExtensionState, LimitRequest};
use crate::container_state::ContainerExit;
use crate::container_state::ContainerState;
use crate::job_box::{BoxFailure, FoundBox};
use crate::registry::read::FoundJob;
use crate::registry::requests::DaemonRequest;
use crate::time::BootScale;

#[derive(Debug)]
pub(in crate::daemon) enum Input {
    /// The registry was opened and has these unfinished jobs.
    RegistryOpened(Vec<JobRecord>),
    /// The daemon accepts connections.
    Listening,
    /// An agent asks for admission. Connected agents may always reconnect; others are refused if there are too many.
    Register(AgentId),
    /// An agent was welcomed after its hello.
    Connected(Connection),
    /// A connection has ended.
    Disconnected { connection_id: ConnectionId, reason: String },
    /// Answer to [`Effect::Send`](super::Effect::Send) if the frame can't be queued.
    FrameNotSent(ConnectionId),
    /// Answer to [`Effect::FindRevoked`](super::Effect::FindRevoked): these agents can't reconnect.
    Revoked(Vec<AgentId>),
    /// An agent has accepted a job.
    Accepted { connection_id: ConnectionId, job: JobId, epoch: u32 },
    /// An agent has refused a job, for good or only because the agent is full.
    Refused { connection_id: ConnectionId, job: JobId, reason: String, is_full: bool },
    /// An agent has measured its machine.
    Vitals { connection_id: ConnectionId, vitals: Box<MachineVitals> },
    /// The writer has changed these records.
    RecordsChanged(BTreeMap<JobId, JobRecord>),
    /// This process did not run for this time, because it was stopped or the machine slept.
    ProcessFrozen(Duration),
    /// The user's settings of the model have changed: reason why workers can't reach it, `None` if they can.
    ModelChecked(Option<String>),
    /// The user's settings of the model's server have changed, perhaps after a login.
    CredentialsChanged,
    /// The budget of the day is used up, or a new day has begun.
    DayBudget(Option<Hold>),
    /// The periodic work begins: publish a heartbeat with this time.
    Heartbeat(Timestamp),
    /// The registry was removed or replaced.
    RegistryGone,
    /// These jobs are in the registry, outside of its archive.
    JobsListed(BTreeSet<JobId>),
    /// A job that the core did not know is in the registry.
    JobFound(Box<FoundJob>),
    /// Answer to [`Effect::ReadDependencies`](super::Effect::ReadDependencies).
    DependenciesRead(Vec<(JobId, DependencyState)>),
    /// The wall clock was checked: milliseconds by which it was set ahead, or back if negative; `None` if unchanged.
    WallClock(Option<i64>),
    /// Answer to [`Effect::FollowWallClock`](super::Effect::FollowWallClock): the new scale.
    ClockSet(Option<BootScale>),
    /// A request is filed in the registry; `None` if it can't be read. `wall_time` is the wall clock's time.
    RequestFiled { path: PathBuf, request: Option<DaemonRequest>, wall_time: Timestamp },
    /// All filed requests were passed to the core.
    RequestsRead,
    /// Answer to [`LimitEffect::ReadExtensionStates`](super::LimitEffect::ReadExtensionStates).
    ExtensionStates(Vec<ExtensionState>),
    /// Answer to [`LimitEffect::SendRequest`](super::LimitEffect::SendRequest) if the frame was queued.
    LimitRequestSent { path: PathBuf, connection: ConnectionNumber },
    /// Answer to [`LimitEffect::RewriteRequest`](super::LimitEffect::RewriteRequest) on success.
    RequestRewritten(LimitRequest),
    /// Answer to [`LimitEffect::StoreTargetLimit`](super::LimitEffect::StoreTargetLimit) on success.
    TargetLimitStored(LimitRequest),
    /// Answer to [`LimitEffect::WriteSpecLimit`](super::LimitEffect::WriteSpecLimit) on success.
    SpecLimitWritten(PathBuf),
    /// The periodic work ends: handle timeouts and retries.
    Tick,
    /// Answer to [`EngineEffect::FindLocalAgentProcess`](super::EngineEffect::FindLocalAgentProcess). `reason` says why
    /// the agent's connection ended.
    LocalAgentProcess { is_running: bool, reason: String },
    /// An attempt to start the platform has finished.
    PlatformStarted(Result<(), String>),
    /// The engine was asked for the address at which containers reach this host: `Some` if the daemon listens there.
    GatewayOpened(Option<SocketAddr>),
    /// An attempt to stop the platform has finished.
    PlatformStopped(Result<(), String>),
    /// A change of the platform's container was observed.
    ContainerChanged(ContainerChange),
    /// An attempt to start the box with this agent has finished.
    BoxStarted { agent: AgentId, result: Result<(), BoxFailure> },
    /// An attempt to remove the box with this agent has finished.
    BoxRemoved { agent: AgentId, result: Result<(), String> },
    /// A change of the box with this agent was observed.
    BoxChanged { agent: AgentId, change: BoxChange },
    /// All boxes of the registry were listed, at `asked_at` or later.
    BoxesListed { found: Vec<FoundBox>, asked_at: Instant },
    /// The main loop has ended.
    MainLoopEnded,
}

/// Observed change of the platform's container.
#[derive(Debug)]
pub(in crate::daemon) enum ContainerChange {
    Started,
    /// The container ended.
    Died(ContainerExit),
    /// The engine was asked to stop the container.
    Stopped,
    Paused,
    /// The container was resumed.
    Unpaused,
    Removed,
    /// The container was inspected.
    Inspected(ContainerState),
}

/// Observed change of a box.
#[derive(Debug)]
pub(in crate::daemon) enum BoxChange {
    /// The container ended.
    Exited(ContainerExit),
    /// The container was removed.
    Removed,
}
