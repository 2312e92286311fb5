//! Handles a full disk of the registry.
//!
//! ```text
//!            a write finds no space     after CHECK_INTERVAL: space for the reserve
//!   free  ───────────────────────────► full ────────────────────────────────────────► free
//!                                        │  batches without a final event wait at their agent: no receipt, no refusal
//!                                        └  final events are recorded, using the reserve
//! ```
//!
//! An agent without a receipt keeps its data. Its connection stays open until there is free space, because a closed
//! connection would make the agent reconnect some ten times a second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::ids::JobId;

use super::command::{Receipt, Receipts};

use crate::registry::{Registry, reserve};

/// Interval between two checks for free space. An agent continues less than 5 s after there is free space.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reason for missing events, sent to agents and shown in records: no free bytes.
const DISK_FULL: &str = "the disk of the relay's registry is full";
/// Reason for missing events on a disk with free bytes but without free inodes.
const NO_FREE_INODES: &str = "the disk of the relay's registry has no free inodes: it can hold no more files";

/// State of the registry's disk: full, or with free space.
pub(super) struct DiskFullState {
    registry: Registry,
    /// Time of the next check; `None` while there is free space.
    next_check: Option<Instant>,
    /// Jobs whose events wait at their agent, each with the receipt map of the agent's connection.
    deferred_receipts: BTreeMap<JobId, Receipts>,
    /// Jobs whose agent has sent the final event: all their batches are recorded although the disk is full.
    jobs_with_final_event: BTreeSet<JobId>,
}

impl DiskFullState {
    /// Creates the reserve of disk space for final events; marks the disk as full if there is no space for it.
    pub(super) fn new(registry: &Registry, now: Instant) -> Self {
        let next_check = reserve::ensure_reserve(registry).is_err().then_some(now + CHECK_INTERVAL);
        if next_check.is_some() {
            tracing::error!("{}: outcomes of jobs may be lost", find_shortage(registry));
        }
        Self {
            registry: registry.clone(),
            next_check,
            deferred_receipts: BTreeMap::new(),
            jobs_with_final_event: BTreeSet::new(),
        }
    }

    /// Returns the reason why nothing can be written.
    pub(super) fn shortage_reason(&self) -> &'static str {
        find_shortage(&self.registry)
    }

    pub(super) fn is_full(&self) -> bool {
        self.next_check.is_some()
    }

    /// Marks the disk as full.
    pub(super) fn set_full(&mut self, now: Instant) {
        if self.next_check.replace(now + CHECK_INTERVAL).is_none() {
            tracing::error!(
                "{}: only the outcomes of jobs are recorded until there is free space",
                self.shortage_reason()
            );
        }
    }

    /// Releases the reserve; returns true if that freed space.
    pub(super) fn release_reserve(&mut self, now: Instant) -> bool {
        self.set_full(now);
        reserve::release_reserve(&self.registry)
    }

    /// Remembers a job whose final event has been sent. Returns true if a batch of the job must be recorded although
    /// the disk is full: the batch with the final event, and every later one.
    pub(super) fn note_and_must_record(&mut self, job: &JobId, has_final_event: bool) -> bool {
        if has_final_event {
            self.jobs_with_final_event.insert(job.clone());
        }
        self.jobs_with_final_event.contains(job)
    }

    /// Defers an agent's events until there is free space; returns true if they were not deferred before.
    pub(super) fn defer(&mut self, job: &JobId, receipts: Receipts) -> bool {
        self.deferred_receipts.insert(job.clone(), receipts).is_none()
    }

    /// Returns the time of the next check for free space.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// Checks for free space. If there is some again, asks all waiting agents to send everything again.
    pub(super) fn check_free_space(&mut self, now: Instant) {
        if reserve::create_reserve(&self.registry).is_err() {
            self.next_check = Some(now + CHECK_INTERVAL);
            return;
        }
        tracing::info!("the disk of the registry has free space again");
        self.next_check = None;
        self.jobs_with_final_event.clear();
        for (job, receipts) in std::mem::take(&mut self.deferred_receipts) {
            let problem =
                Some("the disk of the relay's registry was full, and has free space again".to_owned());
            receipts.post(job, Receipt { reconnect_reason: problem, ..Receipt::default() });
        }
    }
}

fn find_shortage(registry: &Registry) -> &'static str {
    if reserve::has_inodes_for_reserve(registry) { DISK_FULL } else { NO_FREE_INODES }
}
