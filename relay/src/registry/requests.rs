//! What the command line asks of the daemon: one file a request, removed once applied.

use std::io;
use std::path::{Path, PathBuf};

use common::ids::JobId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::atomic::Durability;
use super::dir::Dir;
use super::file_ref::FileRef;
use super::lease::Holder;
use super::prune::Keep;
use super::refused::Refused;

/// Longest request, in bytes.
const MOST: u64 = 16 << 10;
/// Most requests that are read at once: more are looked at when these are done.
const MOST_FILED: usize = 4096;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// There is a new record. Only a hint: the daemon finds it by itself a little later.
    Launch {
        /// Which job.
        job: JobId,
    },
    /// End a job.
    Cancel {
        /// Which job.
        job: JobId,
        /// From now to the last process killed, in milliseconds.
        grace_ms: u64,
    },
    /// Move a limit of a job.
    Extend {
        /// Which job.
        job: JobId,
        /// Whether the limit of the step that runs is meant, and not that of the whole job.
        step: bool,
        /// By how much, in milliseconds.
        by_ms: u64,
        /// Id of the newest event that can't be the answer.
        after: u64,
        /// The limit that the daemon has promised to a job that still waits.
        #[serde(default)]
        to_ms: Option<u64>,
    },
    /// Remove archived jobs for good.
    Prune {
        /// The daemon that is meant: no other one obeys. None in a request of an earlier version, which none obeys.
        #[serde(default)]
        relay: Option<Holder>,
        /// What stays.
        keep: Keep,
    },
    /// Make sure of the platform now, whatever was tried before.
    Up,
    /// Stop the platform and the daemon; jobs that still run are ended.
    Down {
        /// The daemon that is meant: no other one obeys. None in a request of an earlier version, which none obeys.
        #[serde(default)]
        relay: Option<Holder>,
    },
    /// End the daemon and leave everything else, so that another one takes over.
    Restart {
        /// The daemon that is meant: no other one obeys.
        relay: Holder,
    },
}

impl Request {
    /// True if this daemon may obey it: a request that ends a daemon or removes something names the one that is meant.
    pub fn is_for(&self, daemon: &Holder) -> bool {
        match self {
            Self::Down { relay } | Self::Prune { relay, .. } => relay.as_ref() == Some(daemon),
            Self::Restart { relay } => relay == daemon,
            Self::Launch { .. } | Self::Cancel { .. } | Self::Extend { .. } | Self::Up => true,
        }
    }
}

/// A request that lies in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// Its file.
    pub path: PathBuf,
    /// What it asks; `None` for one that can't be read.
    pub request: Option<Request>,
}

/// Files a request and gives its file. `Launch` is a hint and may be lost to a power loss; the others are durable.
///
/// # Errors
/// When the folder can't be written.
pub fn file(registry: &Registry, request: &Request) -> io::Result<PathBuf> {
    file_at(registry, request, Timestamp::now())
}

/// The same at this time, which decides what request comes first.
///
/// # Errors
/// As there.
pub fn file_at(registry: &Registry, request: &Request, at: Timestamp) -> io::Result<PathBuf> {
    let durability =
        if matches!(request, Request::Launch { .. }) { Durability::Cached } else { Durability::Synced };
    // Time orders them, the process id keeps two of the same nanosecond apart.
    let name = format!("{:024}-{}.json", at.as_nanosecond(), std::process::id());
    let file = registry.requests().file(name);
    file.create(&serde_json::to_vec(request)?, durability)?;
    Ok(file.path().to_owned())
}

/// A request for as long as a command waits for it: a daemon that has died leaves it behind.
#[derive(Debug)]
pub struct Awaited<'a> {
    registry: &'a Registry,
    path: PathBuf,
}

impl<'a> Awaited<'a> {
    /// Files a request.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn file(registry: &'a Registry, request: &Request) -> io::Result<Self> {
        Ok(Self { registry, path: file(registry, request)? })
    }

    /// Whether the daemon still has it to do.
    pub fn is_filed(&self) -> bool {
        file_of(self.registry, &self.path).exists()
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        // Best effort: what names its daemon is obeyed by no other one.
        let _ = remove(self.registry, &self.path);
    }
}

/// Every request, oldest first.
///
/// # Errors
/// When the folder can't be read.
pub fn pending(registry: &Registry) -> io::Result<Vec<Filed>> {
    let folder = registry.requests();
    let mut names = folder.names()?;
    names.retain(|name| !name.starts_with('.') && name.strip_suffix(".json").is_some());
    names.sort();
    names.truncate(MOST_FILED);
    Ok(names.iter().map(|name| read(&folder, name)).collect())
}

fn read(folder: &Dir, name: &str) -> Filed {
    let file = folder.file(name);
    let request = file.read(MOST).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Filed { path: file.path().to_owned(), request }
}

/// The file of a request: its name counts, and no path.
pub fn file_of(registry: &Registry, path: &Path) -> FileRef {
    registry.requests().file(path.file_name().unwrap_or_default())
}

/// Replaces what a request asks, durably, before something is done about it that must not be done twice.
///
/// # Errors
/// When the file can't be replaced.
pub fn amend(registry: &Registry, path: &Path, request: &Request) -> io::Result<()> {
    file_of(registry, path).replace(&serde_json::to_vec(request)?, Durability::Synced)
}

/// Removes a request that was applied or can't be read; sets aside what may not be opened.
///
/// # Errors
/// When the file can't be removed; one that is gone is fine.
pub fn remove(registry: &Registry, path: &Path) -> io::Result<()> {
    let file = file_of(registry, path);
    match file.problem()? {
        Some(reason) => file.set_aside(&Refused::error(path, reason)),
        None => file.remove(),
    }
}
