//! Requests of the command line to the daemon: one file per request, removed once applied.

use std::io;
use std::path::{Path, PathBuf};

use common::ids::JobId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::lease::Holder;
use super::prune::Retention;
use crate::files::atomic::Durability;
use crate::files::dir::Dir;
use crate::files::file_ref::FileRef;
use crate::files::refused::Refused;

/// Maximum size of a request, in bytes.
const MAX_FILE_SIZE: u64 = 16 << 10;
/// Maximum number of requests that are read at once; the rest follow when these are done.
const MAX_FILED: usize = 4096;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// A new record exists. Only a hint: the daemon finds the record without it a little later.
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
        /// True for the limit of the running step, false for that of the whole job.
        step: bool,
        /// Extension, in milliseconds.
        by_ms: u64,
        /// Id of the newest event that can't be the answer.
        after: u64,
        /// Limit that the daemon has promised to a queued job.
        #[serde(default)]
        to_ms: Option<u64>,
    },
    /// Remove archived jobs for good.
    Prune {
        /// Daemon that the request is for; no other one applies it. None in a request of an earlier version, which no
        /// daemon applies.
        #[serde(default)]
        relay: Option<Holder>,
        /// Retention rules.
        keep: Retention,
    },
    /// Start the platform now, whatever happened before.
    Up,
    /// Stop the platform and the daemon; running jobs are ended.
    Down {
        /// Daemon that the request is for; no other one applies it. None in a request of an earlier version, which no
        /// daemon applies.
        #[serde(default)]
        relay: Option<Holder>,
    },
    /// Stop the daemon and leave everything else, so that another one takes over.
    Restart {
        /// Daemon that the request is for; no other one applies it.
        relay: Holder,
    },
}

impl Request {
    /// Returns true if this daemon may apply the request. A request that stops a daemon or removes something names its
    /// daemon.
    pub fn is_for(&self, daemon: &Holder) -> bool {
        match self {
            Self::Down { relay } | Self::Prune { relay, .. } => relay.as_ref() == Some(daemon),
            Self::Restart { relay } => relay == daemon,
            Self::Launch { .. } | Self::Cancel { .. } | Self::Extend { .. } | Self::Up => true,
        }
    }
}

/// A request in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// Path of its file.
    pub path: PathBuf,
    /// The request; `None` if it can't be read.
    pub request: Option<Request>,
}

/// Files a request and returns its path. `Launch` is a hint and may be lost to a power loss; the others are durable.
pub fn file(registry: &Registry, request: &Request) -> io::Result<PathBuf> {
    file_at(registry, request, Timestamp::now())
}

/// Files a request with this time, which determines the order of requests.
pub fn file_at(registry: &Registry, request: &Request, at: Timestamp) -> io::Result<PathBuf> {
    let durability =
        if matches!(request, Request::Launch { .. }) { Durability::Cached } else { Durability::Synced };
    // The time orders requests; the process id separates two of the same nanosecond.
    let name = format!("{:024}-{}.json", at.as_nanosecond(), std::process::id());
    let file = registry.requests().file(name);
    file.create(&serde_json::to_vec(request)?, durability)?;
    Ok(file.path().to_owned())
}

/// A request that is removed when its command stops waiting: a daemon that died leaves it behind.
#[derive(Debug)]
pub struct Awaited<'a> {
    registry: &'a Registry,
    path: PathBuf,
}

impl<'a> Awaited<'a> {
    /// Files a request.
    pub fn file(registry: &'a Registry, request: &Request) -> io::Result<Self> {
        Ok(Self { registry, path: file(registry, request)? })
    }

    /// Returns true if the daemon has not applied it yet.
    pub fn is_filed(&self) -> bool {
        file_of(self.registry, &self.path).exists()
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        // Best effort: no other daemon applies a request that names its daemon.
        let _ = remove(self.registry, &self.path);
    }
}

/// Returns every request, oldest first.
pub fn pending(registry: &Registry) -> io::Result<Vec<Filed>> {
    let folder = registry.requests();
    let mut names = folder.names()?;
    names.retain(|name| !name.starts_with('.') && name.strip_suffix(".json").is_some());
    names.sort();
    names.truncate(MAX_FILED);
    Ok(names.iter().map(|name| read(&folder, name)).collect())
}

fn read(folder: &Dir, name: &str) -> Filed {
    let file = folder.file(name);
    let request = file.read(MAX_FILE_SIZE).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Filed { path: file.path().to_owned(), request }
}

/// Returns the file of a request. Only the name in `path` counts.
pub fn file_of(registry: &Registry, path: &Path) -> FileRef {
    registry.requests().file(path.file_name().unwrap_or_default())
}

/// Replaces the content of a request, durably, before an action that must not happen twice.
pub fn amend(registry: &Registry, path: &Path, request: &Request) -> io::Result<()> {
    file_of(registry, path).replace(&serde_json::to_vec(request)?, Durability::Synced)
}

/// Removes a request that was applied or can't be read; sets aside an entry that may not be opened.
///
/// # Errors
/// Returns an error if the file can't be removed. An absent file is not an error.
pub fn remove(registry: &Registry, path: &Path) -> io::Result<()> {
    let file = file_of(registry, path);
    match file.problem()? {
        Some(reason) => file.set_aside(&Refused::error(path, reason)),
        None => file.remove(),
    }
}
