//! Requests of commands to the daemon: one file per request, which is removed once the request is applied.

use std::io;
use std::path::{Path, PathBuf};

use common::ids::JobId;
use common::result::ResultState;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::lease::DaemonId;
use super::prune::Retention;
use crate::files::atomic::Durability;
use crate::files::dir::RegistryDir;
use crate::files::file_ref::FileRef;
use crate::files::refused::RefusedEntry;

/// Maximum size of a request, in bytes.
const MAX_FILE_SIZE: u64 = 16 << 10;
/// Maximum number of requests that are read at once. The remaining requests are read when these are applied.
const MAX_PENDING_REQUESTS: usize = 4096;

/// A request of a command to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum DaemonRequest {
    /// A new record exists. This request is only a hint: without it, the daemon finds the record a little later.
    Launch {
        /// Launched job.
        job: JobId,
    },
    /// Cancel a job.
    Cancel {
        /// Job to cancel.
        job: JobId,
        /// Time from now until the last process is killed, in milliseconds.
        grace_ms: u64,
    },
    /// Extend a limit of a job.
    Extend {
        /// Job to extend.
        job: JobId,
        /// True for the limit of the running step, false for the limit of the whole job.
        step: bool,
        /// Extension, in milliseconds.
        by_ms: u64,
        /// Id of an event: only later events can be the answer to this request.
        after: u64,
        /// New limit, in milliseconds, that the daemon is writing into the spec of a queued job.
        #[serde(default)]
        to_ms: Option<u64>,
    },
    /// Change the state of a job's result: it was applied, merged or discarded.
    SetResultState {
        /// Job with the result.
        job: JobId,
        /// Commit of the result.
        commit: String,
        /// New state.
        state: ResultState,
    },
    /// Remove archived jobs for good.
    Prune {
        /// Daemon that the request is for; no other daemon applies it. `None` in a request of an earlier version, which
        /// no daemon applies.
        #[serde(default)]
        relay: Option<DaemonId>,
        /// Retention rules.
        keep: Retention,
    },
    /// Start the platform now.
    Up,
    /// Stop the platform and the daemon; running jobs are ended.
    Down {
        /// Daemon that the request is for; no other daemon applies it. `None` in a request of an earlier version, which
        /// no daemon applies.
        #[serde(default)]
        relay: Option<DaemonId>,
    },
    /// Stop only the daemon, so that another one takes over.
    Restart {
        /// Daemon that the request is for; no other daemon applies it.
        relay: DaemonId,
    },
}

impl DaemonRequest {
    /// Returns true if this daemon may apply the request. Requests that stop a daemon or remove jobs are for one daemon.
    pub fn is_for(&self, daemon: &DaemonId) -> bool {
        match self {
            Self::Down { relay } | Self::Prune { relay, .. } => relay.as_ref() == Some(daemon),
            Self::Restart { relay } => relay == daemon,
            Self::Launch { .. }
            | Self::Cancel { .. }
            | Self::Extend { .. }
            | Self::SetResultState { .. }
            | Self::Up => true,
        }
    }
}

/// A request in the folder of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiledRequest {
    /// Path of the request's file.
    pub path: PathBuf,
    /// The request; `None` if it can't be read.
    pub request: Option<DaemonRequest>,
}

/// Files a request and returns the path of its file. A power loss may lose `Launch`, which is only a hint; all other
/// requests are durable.
pub fn file_request(registry: &Registry, request: &DaemonRequest) -> io::Result<PathBuf> {
    file_request_at(registry, request, Timestamp::now())
}

/// Files a request with this time, which determines the order of requests.
pub fn file_request_at(registry: &Registry, request: &DaemonRequest, at: Timestamp) -> io::Result<PathBuf> {
    let durability =
        if matches!(request, DaemonRequest::Launch { .. }) { Durability::Cached } else { Durability::Synced };
    // The time orders requests; the process id separates two requests of the same nanosecond.
    let name = format!("{:024}-{}.json", at.as_nanosecond(), std::process::id());
    let file = registry.requests().file(name);
    file.create(&serde_json::to_vec(request)?, durability)?;
    Ok(file.path().to_owned())
}

/// A request whose command waits for the daemon. If the command stops waiting, it removes the request, because a dead
/// daemon would not do so.
#[derive(Debug)]
pub struct AwaitedRequest<'a> {
    registry: &'a Registry,
    path: PathBuf,
}

impl<'a> AwaitedRequest<'a> {
    /// Files a request.
    pub fn file(registry: &'a Registry, request: &DaemonRequest) -> io::Result<Self> {
        Ok(Self { registry, path: file_request(registry, request)? })
    }

    /// Returns true if the daemon has not applied the request yet.
    pub fn is_filed(&self) -> bool {
        request_file(self.registry, &self.path).exists()
    }
}

impl Drop for AwaitedRequest<'_> {
    fn drop(&mut self) {
        // Best effort: a remaining request is harmless, because it names its daemon and no other daemon applies it.
        let _ = remove_request(self.registry, &self.path);
    }
}

/// Returns the filed requests, oldest first, at most `MAX_PENDING_REQUESTS`.
pub fn pending_requests(registry: &Registry) -> io::Result<Vec<FiledRequest>> {
    let folder = registry.requests();
    let mut names = folder.names()?;
    names.retain(|name| !name.starts_with('.') && name.strip_suffix(".json").is_some());
    names.sort();
    names.truncate(MAX_PENDING_REQUESTS);
    Ok(names.iter().map(|name| read_request(&folder, name)).collect())
}

fn read_request(folder: &RegistryDir, name: &str) -> FiledRequest {
    let file = folder.file(name);
    let request = file.read(MAX_FILE_SIZE).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    FiledRequest { path: file.path().to_owned(), request }
}

/// Returns the file of a request. Only the file name of `path` is used.
pub fn request_file(registry: &Registry, path: &Path) -> FileRef {
    registry.requests().file(path.file_name().unwrap_or_default())
}

/// Replaces the content of a request durably, before an action that must happen only once.
pub fn replace_request(registry: &Registry, path: &Path, request: &DaemonRequest) -> io::Result<()> {
    request_file(registry, path).replace(&serde_json::to_vec(request)?, Durability::Synced)
}

/// Removes a request that was applied or can't be read; sets aside an entry that may not be opened.
///
/// # Errors
/// Returns an error if the file can't be removed. An absent file is not an error.
pub fn remove_request(registry: &Registry, path: &Path) -> io::Result<()> {
    let file = request_file(registry, path);
    match file.refusal_reason()? {
        Some(reason) => file.set_aside(&RefusedEntry::error(path, reason)),
        None => file.remove(),
    }
}
