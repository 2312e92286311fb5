//! Inputs of the core.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use common::ids::JobId;
use common::record::JobRecord;
use jiff::Timestamp;

use super::connections::{Connection, ConnectionId, ConnectionNumber};
use super::extend::{LimitFacts, LimitRequest};
use super::scheduler::AgentId;
use crate::container_state::ContainerState;
use crate::container_state::Death;
use crate::registry::requests::Request;
use crate::time::BootScale;

/// Everything that the core learns.
#[derive(Debug)]
pub(in crate::daemon) enum Input {
    /// The registry was opened and has these jobs, which have not ended.
    Opened(Vec<JobRecord>),
    /// The daemon listens.
    Listening,
    /// An agent asks for admission. An agent that is connected may reconnect at any time; others are refused if there
    /// are too many.
    Register(AgentId),
    /// An agent was welcomed after its hello.
    Connected(Connection),
    /// A connection has ended.
    Disconnected { connection_id: ConnectionId, reason: String },
    /// Answer to [`Effect::Send`](super::Effect::Send) if the frame can't be queued.
    NotSent(ConnectionId),
    /// An agent has accepted a job.
    Accepted { connection_id: ConnectionId, job: JobId, epoch: u32 },
    /// An agent has refused a job.
    Refused { connection_id: ConnectionId, job: JobId, reason: String, busy: bool },
    /// The writer has changed these records.
    Changed(BTreeMap<JobId, JobRecord>),
    /// Nothing in this process ran for this time.
    Frozen(Duration),
    /// The periodic work begins; the heartbeat gets this time.
    Heartbeat(Timestamp),
    /// The registry was removed or replaced.
    RegistryGone,
    /// The registry has records of these jobs.
    JobsListed(BTreeSet<JobId>),
    /// A job that the core did not know has this record.
    JobFound(Box<JobRecord>),
    /// Milliseconds by which the wall clock was set ahead, or back if negative; `None` if it was not set.
    WallClock(Option<i64>),
    /// Answer to [`Effect::FollowWallClock`](super::Effect::FollowWallClock): the new scale.
    ClockSet(Option<BootScale>),
    /// A request is filed in the registry; `None` if it can't be read. `wall` is the wall clock's time.
    Request { path: PathBuf, request: Option<Request>, wall: Timestamp },
    /// Every filed request was handed in.
    RequestsRead,
    /// Answer to [`LimitEffect::Inspect`](super::LimitEffect::Inspect).
    LimitsInspected(Vec<LimitFacts>),
    /// Answer to [`LimitEffect::Send`](super::LimitEffect::Send) if the frame was queued.
    LimitSent { path: PathBuf, connection: ConnectionNumber },
    /// Answer to [`LimitEffect::Amend`](super::LimitEffect::Amend) on success.
    RequestAmended(LimitRequest),
    /// Answer to [`LimitEffect::Promise`](super::LimitEffect::Promise) on success.
    LimitPromised(LimitRequest),
    /// Answer to [`LimitEffect::Move`](super::LimitEffect::Move) on success.
    LimitMoved(PathBuf),
    /// The periodic work ends: handle timeouts and retries.
    Tick,
    /// Answer to [`EngineEffect::FindAgent`](super::EngineEffect::FindAgent): true if the agent's process runs.
    AgentFound { runs: bool, reason: String },
    /// An attempt to bring up the platform has finished.
    Ensured(Result<(), String>),
    /// The engine was asked for the address under which containers reach this host: the address, if the daemon now
    /// listens there.
    Gateway(Option<SocketAddr>),
    /// The platform is stopped, or the error of the attempt.
    Stopped(Result<(), String>),
    /// A change of the container was observed.
    Container(ContainerChange),
    /// The main loop has ended.
    Closing,
}

/// Observed change of the container.
#[derive(Debug)]
pub(in crate::daemon) enum ContainerChange {
    Started,
    /// The container ended.
    Died(Death),
    /// The engine was asked to stop the container.
    Stopped,
    Paused,
    /// The container was resumed.
    Unpaused,
    Removed,
    Inspected(ContainerState),
}
