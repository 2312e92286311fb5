//! The lease, in which the daemon publishes its identity and its state.
//!
//! `relay.json` contains the lease. The daemon keeps `relay.lock` locked while it runs, so its end shows at once.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use common::ids::JobName;
use common::vitals::MachineVitals;
use jiff::Timestamp;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Registry;
use crate::container_state::ContainerExit;
use crate::engine_kind::EngineKind;
use crate::files::atomic::Durability;
use crate::min_free::Shortage;
use crate::time::{self, BootScale};

/// Version of the lease's JSON.
pub const SCHEMA_VERSION: u32 = 1;

/// Minimum age of the last heartbeat of a daemon that counts as dead or unable to write: three heartbeat intervals.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum size of a lease, in bytes: a container exit may name fifty jobs.
const MAX_FILE_SIZE: u64 = 256 << 10;

/// Identity and state that the daemon publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Version of the lease's JSON: [`SCHEMA_VERSION`].
    pub schema: u32,
    /// Process id of the daemon.
    pub pid: u32,
    /// Version of the daemon.
    pub version: String,
    /// Engine in use.
    pub engine: EngineKind,
    /// Listening addresses; empty while the daemon reads its registry.
    pub listen: Vec<SocketAddr>,
    /// Start time of the daemon.
    pub started_at: Timestamp,
    /// Time of the last heartbeat.
    pub heartbeat_at: Timestamp,
    /// State of the platform.
    pub platform: PlatformStatus,
    /// Id of the platform's own agent, once it is known. Only for readers: the next relay uses its [saved
    /// state](crate::state_dir::saved_state).
    #[serde(default)]
    pub agent: Option<String>,
    /// Last exit of the platform's container, kept until the agent was notified and the interrupted jobs have ended.
    /// Only for readers.
    #[serde(default, rename = "death")]
    pub last_exit: Option<ContainerExit>,
    /// Time scale of the lease's timestamps, for readers on the same machine.
    #[serde(default)]
    pub clock: Option<BootScale>,
    /// Maximum number of concurrent jobs of each group that has a limit. Only for readers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<JobName, u32>,
    /// `PATH` of the daemon, which the workers of engine `local` have. Only for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Identity of a daemon, unique within a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonId {
    /// Process id.
    pub pid: u32,
    /// Start time.
    pub started_at: Timestamp,
}

impl Lease {
    /// Returns the identity of the daemon that wrote this lease.
    pub fn current_holder(&self) -> DaemonId {
        DaemonId { pid: self.pid, started_at: self.started_at }
    }

    /// Returns the time since the last heartbeat; `None` while it is within the usual bounds.
    pub fn silence(&self, now: Timestamp) -> Option<Duration> {
        let silence = Duration::try_from(now.duration_since(self.heartbeat_at)).ok()?;
        (silence >= HEARTBEAT_TIMEOUT).then_some(silence)
    }
}

/// State of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PlatformStatus {
    Starting {
        /// Current step of the start.
        detail: String,
    },
    /// An agent is connected: the platform's own agent, or another agent while the platform's own is disconnected.
    Ready {
        /// Id of the agent.
        agent: String,
        /// Version of the agent.
        version: String,
        /// Maximum number of jobs that the agent runs at once.
        max_jobs: u32,
        /// Version of the agent's Codex.
        codex: Option<String>,
        /// Reason why no Codex worker can run.
        codex_problem: Option<String>,
        /// Number of connected agents, including this agent.
        #[serde(default = "default_agent_count")]
        agents: usize,
        /// Vitals of the agent's machine, if the agent measures them.
        #[serde(default)]
        vitals: Option<Box<MachineVitals>>,
        /// Memory or disk space of which the agent's machine has too little for another job.
        #[serde(default)]
        shortage: Option<Shortage>,
    },
    /// The platform can't be started; relay retries from time to time.
    Failed {
        /// Reason, in one actionable line.
        detail: String,
    },
    /// `relay down` stopped the platform.
    Stopped,
}

fn default_agent_count() -> usize {
    1
}

/// Reads the lease. The daemon that wrote it may have ended.
pub fn read_lease(registry: &Registry) -> Option<Lease> {
    let bytes = registry.lease().read(MAX_FILE_SIZE).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Returns the limits of groups, as the running daemon or the last daemon published them.
pub fn group_limits(registry: &Registry) -> BTreeMap<JobName, u32> {
    read_lease(registry).map(|lease| lease.groups).unwrap_or_default()
}

/// Replaces the lease in the registry.
pub fn write_lease(registry: &Registry, lease: &Lease, durability: Durability) -> io::Result<()> {
    registry.lease().replace_or_overwrite(&serde_json::to_vec(lease)?, durability)
}

/// Returns the current time on the scale of the registry's records, as set by the running daemon or the last daemon.
pub fn current_time(registry: &Registry) -> Timestamp {
    current_time_of(read_lease(registry).as_ref())
}

/// Returns the current time on the scale of a lease, or of the wall clock if the lease has no scale of this boot.
pub fn current_time_of(lease: Option<&Lease>) -> Timestamp {
    lease.and_then(|lease| lease.clock.as_ref()).and_then(BootScale::now).unwrap_or_else(time::now)
}

/// Replaces the lease of the previous daemon with a first lease of the new daemon, so that readers don't use the old.
/// The file is overwritten in place, because a full disk has no space for a copy.
pub fn take_over(registry: &Registry, holder: &DaemonId) -> io::Result<()> {
    let Some(previous) = read_lease(registry) else { return Ok(()) };
    let lease = Lease {
        pid: holder.pid,
        started_at: holder.started_at,
        heartbeat_at: current_time_of(Some(&previous)),
        listen: Vec::new(),
        platform: PlatformStatus::Starting { detail: "the relay reads its registry".to_owned() },
        ..previous
    };
    write_lease(registry, &lease, Durability::Cached)
}

/// Returns true if a daemon holds the lock of the registry.
pub fn is_held(registry: &Registry) -> bool {
    // The shared lock is released at once, so it can't block a starting daemon, which retries.
    match registry.lock().open() {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

/// Returns the identity of the daemon that holds the registry, if there is one and it has written its lease.
pub fn holder(registry: &Registry) -> Option<DaemonId> {
    running_lease(registry).map(|lease| lease.current_holder())
}

/// Returns the lease of the running daemon; `None` if no daemon runs, or if it has not written its lease yet.
pub fn running_lease(registry: &Registry) -> Option<Lease> {
    if is_held(registry) { read_lease(registry) } else { None }
}

/// Returns true if `lock` is still the registry's lock file: false once the folder was removed or replaced. A process
/// that lacks a descriptor or memory at the moment can't find that out, and gets true.
pub fn is_current_lock(registry: &Registry, lock: &File) -> bool {
    let file_id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let current = registry.reopen().lock().metadata().map(file_id);
    match (lock.metadata().map(file_id), current) {
        (Ok(locked), Ok(current)) => locked == current,
        (Err(e), _) | (_, Err(e)) => is_shortage(&e),
    }
}

/// Returns true for an error that says nothing about a file, because the process or the system is short of something.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    shortages.iter().any(|shortage| error.raw_os_error() == Some(shortage.raw_os_error()))
}

/// Locks the registry for this process. The lock is released when the handle is dropped or the process dies for any
/// reason. Returns `None` if another process holds the lock.
pub fn try_lock(registry: &Registry) -> io::Result<Option<File>> {
    let file = registry.lock().open_or_create()?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
