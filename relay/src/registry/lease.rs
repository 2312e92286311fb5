//! Who is the daemon, and does it live.
//!
//! `relay.lock` is held locked by the daemon for as long as it lives, so the answer is right at once after `kill -9`;
//! `relay.json` says who it is.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use common::ids::JobId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::atomic::Durability;
use crate::engine::EngineKind;
use crate::engine::vitals::Vitals;
use crate::time::{self, BootScale};

/// Version of the lease's JSON.
pub const SCHEMA: u32 = 1;

/// A daemon that has not written its lease for so long does not run, or can't write: three heartbeats.
const SILENT: Duration = Duration::from_secs(15);

/// Longest lease, in bytes: a death may name fifty jobs.
const MOST: u64 = 256 << 10;

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its engine.
    pub engine: EngineKind,
    /// The addresses it listens on; none yet while it reads its registry.
    pub listen: Vec<SocketAddr>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last said so.
    pub heartbeat_at: Timestamp,
    /// How its platform is.
    pub platform: PlatformStatus,
    /// The id of the platform's own agent, once it is known. For readers: the next relay asks its own
    /// [memory](crate::state_dir::memory).
    #[serde(default)]
    pub agent: Option<String>,
    /// How its container last died, until the agent was told and has ended what that cut off. For readers, too.
    #[serde(default)]
    pub death: Option<Death>,
    /// The scale of its times, for readers on its machine.
    #[serde(default)]
    pub clock: Option<BootScale>,
}

/// Tells the daemons of a registry apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
}

impl Lease {
    /// The daemon whose lease this is.
    pub fn holder(&self) -> Holder {
        Holder { pid: self.pid, started_at: self.started_at }
    }

    /// For how long the daemon has said nothing; `None` while that is usual.
    pub fn silence(&self, now: Timestamp) -> Option<Duration> {
        let silence = Duration::try_from(now.duration_since(self.heartbeat_at)).ok()?;
        (silence >= SILENT).then_some(silence)
    }
}

/// How a container died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// Its exit code; none when it was gone before anybody could look.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed it for its memory.
    pub oom_killed: bool,
    /// Most memory that it might have, in bytes.
    pub memory_limit: Option<u64>,
    /// When, in the engine's own words: what tells it from another death.
    pub finished_at: Option<String>,
    /// The jobs that it cut off and that have no end yet.
    #[serde(default)]
    pub cut_off: BTreeSet<JobId>,
}

impl Death {
    /// A death of which nothing is left to look at.
    pub fn unseen(exit_code: Option<i32>, oom_killed: bool) -> Self {
        Self { exit_code, oom_killed, memory_limit: None, finished_at: None, cut_off: BTreeSet::new() }
    }

    /// The death of a container that was found like this. One that is not there was removed.
    pub fn of(vitals: &Vitals) -> Self {
        match vitals {
            Vitals::Exited { exit_code, oom_killed, memory_limit, finished_at } => Self {
                exit_code: Some(*exit_code),
                oom_killed: *oom_killed,
                memory_limit: *memory_limit,
                finished_at: Some(finished_at.clone()),
                cut_off: BTreeSet::new(),
            },
            Vitals::Absent | Vitals::Running | Vitals::Paused => Self::unseen(None, false),
        }
    }
}

/// How the platform is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PlatformStatus {
    /// It is being started.
    Starting {
        /// What is being waited for.
        detail: String,
    },
    /// An agent is connected: its own, or while that is away another one.
    Ready {
        /// The agent's id.
        agent: String,
        /// Its version.
        version: String,
        /// How many jobs it runs at once.
        max_jobs: u32,
        /// Version of Codex there.
        codex: Option<String>,
        /// Why no Codex worker can run.
        codex_problem: Option<String>,
        /// How many agents are connected, this one included.
        #[serde(default = "one")]
        agents: usize,
    },
    /// It can't be started; tried again from time to time.
    Failed {
        /// Why, in one line to act on.
        detail: String,
    },
    /// `relay down` stopped it.
    Stopped,
}

fn one() -> usize {
    1
}

/// Reads the lease, of a daemon that may be gone.
pub fn read(registry: &Registry) -> Option<Lease> {
    let bytes = registry.lease().read(MOST).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Writes the lease.
///
/// # Errors
/// When it can't be written.
pub fn write(registry: &Registry, lease: &Lease, durability: Durability) -> io::Result<()> {
    registry.lease().replace_or_overwrite(&serde_json::to_vec(lease)?, durability)
}

/// The time on the scale of the registry's records: that of its daemon, or of the last one.
pub fn now(registry: &Registry) -> Timestamp {
    now_of(read(registry).as_ref())
}

/// The time on the scale of a lease; what the wall clock says where it has none of this machine's boot.
pub fn now_of(lease: Option<&Lease>) -> Timestamp {
    lease.and_then(|lease| lease.clock.as_ref()).and_then(BootScale::now).unwrap_or_else(time::now)
}

/// Puts the daemon that has just taken the registry into the place of the one before it, which must not pass for it until it
/// knows where it listens. What is there is overwritten: a full disk has no room for more.
///
/// # Errors
/// When it can't be written.
pub fn take_over(registry: &Registry, holder: &Holder) -> io::Result<()> {
    let Some(before) = read(registry) else { return Ok(()) };
    let lease = Lease {
        pid: holder.pid,
        started_at: holder.started_at,
        heartbeat_at: now_of(Some(&before)),
        listen: Vec::new(),
        platform: PlatformStatus::Starting { detail: "the relay reads its registry".to_owned() },
        ..before
    };
    write(registry, &lease, Durability::Cached)
}

/// Whether a daemon holds the registry.
pub fn is_held(registry: &Registry) -> bool {
    // A shared try-lock of an instant: it can't keep a starting daemon out, which tries for longer.
    match registry.lock().open() {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

/// The daemon that holds the registry; `None` where none does, or one that still has to write its lease.
pub fn holder(registry: &Registry) -> Option<Holder> {
    of_living(registry).map(|lease| lease.holder())
}

/// The lease of the daemon that lives, if one does and has written it.
pub fn of_living(registry: &Registry) -> Option<Lease> {
    if is_held(registry) { read(registry) } else { None }
}

/// Whether `lock` is still the registry's: not when somebody has removed or replaced the folder.
pub fn is_mine(registry: &Registry, lock: &File) -> bool {
    let place = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let (mine, there) = (lock.metadata().map(place), registry.anew().lock().metadata().map(place));
    matches!((mine, there), (Ok(mine), Ok(there)) if mine == there)
}

/// Takes the registry for this process; it is free again when the handle is dropped or the process dies, however.
///
/// # Errors
/// `None` inside when somebody else has it.
pub fn take(registry: &Registry) -> io::Result<Option<File>> {
    let file = registry.lock().open_or_make()?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
