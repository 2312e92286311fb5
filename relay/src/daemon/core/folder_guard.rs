//! Guards folders of jobs without a clone: one job at a time in each. Folders that contain each other count as one.
//! Pure.
//!
//! ```text
//!  queued ──► waiter ──no holder, no waiter ahead──► may start ──offered──► holder ──► (ended: released)
//!                ▲                                                             │
//!                └─────────────────────── back in the queue ───────────────────┘
//! ```
//!
//! Waiters whose folders overlap start in the order of their launches, so that no job waits for ever. A job that shares
//! its folder does not wait, but jobs that don't share wait for it. The cost of a call depends on the number of
//! overlapping folders, not on the number of jobs in them.
//!
//! Paths are compared as text: `relay launch` resolves links, and a job whose workspace has become a link is refused
//! when it starts. A session that evades the guard harms only its own workers, like a session that uses `--share`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::path::{Path, PathBuf};

use common::folder::FolderUse;
use common::ids::JobId;
use common::record::JobRecord;
use jiff::Timestamp;

/// Position of a job among the waiters: time of its launch, and its id.
pub(super) type Ticket = (Timestamp, JobId);

/// Use of a folder by a job that works in the folder itself, not in a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FolderClaim {
    path: PathBuf,
    is_shared: bool,
}

impl FolderClaim {
    /// Returns the claim of a job; `None` for a job with a clone of its own, and for a path that no job can work in.
    pub(super) fn of_record(record: &JobRecord) -> Option<Self> {
        let path = PathBuf::from(&record.workspace);
        let is_claim = record.folder_use != FolderUse::OwnPlace && path.is_absolute();
        is_claim.then_some(Self { path, is_shared: record.folder_use == FolderUse::Shared })
    }
}

/// The other jobs that work, or have worked, in a job's folder during the job.
#[derive(Debug, Default)]
pub(super) struct FolderSharing {
    /// In the order in which they became known, at most [`MAX_SHARED_WITH`](common::folder::MAX_SHARED_WITH).
    pub(super) jobs: Vec<JobId>,
    /// True if some were already recorded.
    pub(super) is_reported: bool,
}

impl FolderSharing {
    /// Returns the list in a job's record.
    pub(super) fn of_recorded(jobs: &[JobId]) -> Self {
        Self { jobs: jobs.to_vec(), is_reported: !jobs.is_empty() }
    }
}

/// Jobs of one folder.
#[derive(Debug, Default)]
struct Folder {
    /// Queued jobs that do not share the folder.
    waiters: BTreeSet<Ticket>,
    /// Jobs that an agent runs or was offered.
    holders: BTreeSet<Ticket>,
}

/// Folders in which jobs work or want to work.
#[derive(Debug, Default)]
pub(super) struct FolderGuard {
    folders: BTreeMap<PathBuf, Folder>,
}

impl FolderGuard {
    /// Adds a queued job, which may have held its folder before. Returns the jobs whose blocker may have changed.
    pub(super) fn add_waiter(&mut self, claim: &FolderClaim, ticket: &Ticket) -> Vec<Ticket> {
        let changed = self.release(claim, ticket);
        if !claim.is_shared {
            self.folders.entry(claim.path.clone()).or_default().waiters.insert(ticket.clone());
        }
        changed
    }

    /// Makes a job a holder of its folder.
    pub(super) fn add_holder(&mut self, claim: &FolderClaim, ticket: &Ticket) {
        let folder = self.folders.entry(claim.path.clone()).or_default();
        folder.waiters.remove(ticket);
        folder.holders.insert(ticket.clone());
    }

    /// Removes a job. Returns the jobs whose blocker may have changed: in each overlapping folder, the first waiter and
    /// the next waiter after the removed job.
    pub(super) fn release(&mut self, claim: &FolderClaim, ticket: &Ticket) -> Vec<Ticket> {
        let Some(folder) = self.folders.get_mut(&claim.path) else { return Vec::new() };
        let is_removed = folder.waiters.remove(ticket) | folder.holders.remove(ticket);
        if folder.waiters.is_empty() && folder.holders.is_empty() {
            self.folders.remove(&claim.path);
        }
        if !is_removed {
            return Vec::new();
        }
        let affected = self.overlapping_folders(&claim.path).flat_map(|folder| {
            let next = folder.waiters.range((Excluded(ticket), Unbounded)).next();
            folder.waiters.first().into_iter().chain(next)
        });
        affected.cloned().collect()
    }

    /// Returns the job that a queued job waits for: the last waiter ahead of it, else a job that works in the folder.
    pub(super) fn blocker(&self, claim: &FolderClaim, ticket: &Ticket) -> Option<&JobId> {
        if claim.is_shared {
            return None;
        }
        let ahead = self
            .overlapping_folders(&claim.path)
            .filter_map(|folder| folder.waiters.range(..ticket).next_back());
        let holder = || self.overlapping_folders(&claim.path).find_map(|folder| folder.holders.first());
        ahead.max().or_else(holder).map(|(_, job)| job)
    }

    /// Returns the jobs that work in a folder, in the folders that contain it, and in the folders that it contains.
    pub(super) fn holders(&self, claim: &FolderClaim) -> impl Iterator<Item = &JobId> {
        self.overlapping_folders(&claim.path).flat_map(|folder| &folder.holders).map(|(_, job)| job)
    }

    /// Returns the folder at `path`, the folders that contain it, and the folders that it contains.
    fn overlapping_folders<'a>(&'a self, path: &Path) -> impl Iterator<Item = &'a Folder> {
        let containing = path.ancestors().filter_map(|folder| self.folders.get(folder));
        // The folders below a path follow it directly, because paths are ordered by their parts.
        let contained = self.folders.range::<Path, _>((Excluded(path), Unbounded));
        containing.chain(
            contained.take_while(move |(folder, _)| folder.starts_with(path)).map(|(_, folder)| folder),
        )
    }
}

#[cfg(test)]
#[path = "folder_guard_tests.rs"]
mod tests;
