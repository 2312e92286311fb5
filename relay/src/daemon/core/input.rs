//! Inputs of the core.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use common::ids::JobId;
use common::record::JobRecord;
use common::vitals::MachineVitals;
use jiff::Timestamp;

use super::connections::{Connection, ConnectionId, ConnectionNumber};
use super::dependencies::DependencyState;
use super::extend::{ExtensionState, LimitRequest};
use super::scheduler::AgentId;
use crate::container_state::ContainerExit;
use crate::container_state::ContainerState;
use crate::registry::read::FoundJob;
use crate::registry::requests::DaemonRequest;
use crate::time::BootScale;

#[derive(Debug)]
pub(in crate::daemon) enum Input {
    /// The registry was opened and has these unfinished jobs.
    RegistryOpened(Vec<JobRecord>),
    /// The daemon listens.
    Listening,
    /// An agent asks for admission. An agent that is connected may reconnect at any time; other agents are refused if
    /// too many are connected.
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
    /// An agent has refused a job.
    Refused { connection_id: ConnectionId, job: JobId, reason: String, busy: bool },
    /// An agent has measured its machine.
    Vitals { connection_id: ConnectionId, vitals: Box<MachineVitals> },
    /// The writer has changed these records.
    RecordsChanged(BTreeMap<JobId, JobRecord>),
    /// This process did not run for this long, because it was stopped or the machine slept.
    ProcessFrozen(Duration),
    /// The periodic work begins; the heartbeat gets this time.
    Heartbeat(Timestamp),
    /// The registry was removed or replaced.
    RegistryGone,
    /// The registry has records of these jobs.
    JobsListed(BTreeSet<JobId>),
    /// A job that the core did not know is in the registry.
    JobFound(Box<FoundJob>),
    /// Answer to [`Effect::ReadDependencies`](super::Effect::ReadDependencies).
    DependenciesRead(Vec<(JobId, DependencyState)>),
    /// Milliseconds by which the wall clock was set ahead, or back if negative; `None` if it was not set.
    WallClock(Option<i64>),
    /// Answer to [`Effect::FollowWallClock`](super::Effect::FollowWallClock): the new scale.
    ClockSet(Option<BootScale>),
    /// A request is filed in the registry; `None` if it can't be read. `wall` is the wall clock's time.
    RequestFiled { path: PathBuf, request: Option<DaemonRequest>, wall: Timestamp },
    /// All filed requests were passed on.
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
    /// Answer to [`EngineEffect::FindLocalAgentProcess`](super::EngineEffect::FindLocalAgentProcess): true if the
    /// agent's process runs.
    LocalAgentProcess { runs: bool, reason: String },
    /// An attempt to start the platform has finished.
    PlatformStarted(Result<(), String>),
    /// The engine was queried for the address at which containers reach this host: the address, if the daemon now
    /// listens there.
    GatewayOpened(Option<SocketAddr>),
    /// An attempt to stop the platform has finished.
    PlatformStopped(Result<(), String>),
    /// The container changed.
    ContainerChanged(ContainerChange),
    /// The main loop has ended.
    MainLoopEnded,
}

/// Observed change of the container.
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
    Inspected(ContainerState),
}
