//! Handling of a full registry disk.
//!
//! ```text
//!            a write finds no space     after CHECK_INTERVAL: space for the reserve
//!   roomy ───────────────────────────► full ────────────────────────────────────────► roomy
//!                                        │  batches without an end wait at their agent: no receipt, no refusal
//!                                        └  final events are recorded, using the reserve
//! ```
//!
//! An agent that gets no receipt keeps what it has sent. Its connection stays open until there is free space. If it
//! were closed, the agent would reconnect at once, some ten times a second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::ids::JobId;

use super::command::{Receipt, Receipts};

use crate::registry::{Registry, reserve};

/// Interval between two checks for free space: together with an agent's reconnect, well below the 5 s that a person
/// waits patiently.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reason sent to agents and shown in records.
const FULL: &str = "the disk of the relay's registry is full";
/// Reason why nothing can be written although bytes are free: no inode is.
const NO_FILES: &str = "the disk of the relay's registry has no free inodes: it can hold no more files";

pub(super) struct DiskSpace {
    registry: Registry,
    /// Time of the next check; `None` while there is free space.
    next_check: Option<Instant>,
    /// Jobs whose events wait at their agent.
    deferred: BTreeMap<JobId, Receipts>,
    /// Jobs whose final event follows events that must be recorded first.
    ending: BTreeSet<JobId>,
}

impl DiskSpace {
    /// Creates the reserve; marks the disk as full if there is no space for it.
    pub(super) fn new(registry: &Registry, now: Instant) -> Self {
        let next_check = reserve::ensure(registry).is_err().then_some(now + CHECK_INTERVAL);
        if next_check.is_some() {
            tracing::error!("{}: outcomes of jobs may be lost", shortage(registry));
        }
        Self { registry: registry.clone(), next_check, deferred: BTreeMap::new(), ending: BTreeSet::new() }
    }

    /// Describes what the disk lacks, in a few words.
    pub(super) fn reason(&self) -> &'static str {
        shortage(&self.registry)
    }

    pub(super) fn is_full(&self) -> bool {
        self.next_check.is_some()
    }

    /// Marks the disk as full.
    pub(super) fn set_full(&mut self, now: Instant) {
        if self.next_check.replace(now + CHECK_INTERVAL).is_none() {
            tracing::error!(
                "{}: only the outcomes of jobs are recorded until there is free space",
                self.reason()
            );
        }
    }

    /// Gives up the reserve; returns true if that freed space.
    pub(super) fn give_up_reserve(&mut self, now: Instant) -> bool {
        self.set_full(now);
        reserve::give_up(&self.registry)
    }

    /// Returns true if a batch must be recorded although the disk is full: it holds the final event of its job, or
    /// precedes it.
    pub(super) fn must_record(&mut self, job: &JobId, has_end: bool) -> bool {
        if has_end {
            self.ending.insert(job.clone());
        }
        self.ending.contains(job)
    }

    /// Defers an agent's events until there is free space; returns true if they were not deferred before.
    pub(super) fn defer(&mut self, job: &JobId, receipts: Receipts) -> bool {
        self.deferred.insert(job.clone(), receipts).is_none()
    }

    /// Returns the time of the next check for free space.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next_check
    }

    /// Checks for free space. If there is some again, notifies all waiting agents to send everything again.
    pub(super) fn check(&mut self, now: Instant) {
        if reserve::make(&self.registry).is_err() {
            self.next_check = Some(now + CHECK_INTERVAL);
            return;
        }
        tracing::info!("the disk of the registry has free space again");
        self.next_check = None;
        self.ending.clear();
        for (job, receipts) in std::mem::take(&mut self.deferred) {
            let problem =
                Some("the disk of the relay's registry was full, and has free space again".to_owned());
            receipts.post(job, Receipt { problem, ..Receipt::default() });
        }
    }
}

fn shortage(registry: &Registry) -> &'static str {
    if reserve::has_files(registry) { FULL } else { NO_FILES }
}
