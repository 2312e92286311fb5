//! What is done while the registry's disk is full.
//!
//! ```text
//!            a write finds no room                     LOOK later: room for a reserve
//!   roomy ───────────────────────────► full ────────────────────────────────────────► roomy
//!                                        │  batches without an end wait at their agent: no receipt, no refusal
//!                                        └  ends are recorded, out of the reserve
//! ```
//!
//! An agent that gets no receipt keeps what it has sent. Its connection is not closed before there is room: closed at once,
//! it would come back at once, some ten times a second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::ids::JobId;

use super::command::{Receipt, Receipts};

use crate::registry::{Registry, reserve};

/// Between two looks for room: together with an agent's way back, well below the 5 s that a person waits patiently.
const LOOK: Duration = Duration::from_secs(1);

/// What is told to agents, and shown in records.
const FULL: &str = "the disk of the relay's registry is full";
/// The same where there are bytes left, and no files.
const NO_FILES: &str = "the disk of the relay's registry has no free inodes: it can hold no more files";

pub(super) struct Room {
    registry: Registry,
    /// When to look again; none while there is room.
    look: Option<Instant>,
    /// Whose events wait at their agent.
    waiting: BTreeMap<JobId, Receipts>,
    /// Jobs whose end is on its way behind events that have to come first.
    ending: BTreeSet<JobId>,
}

impl Room {
    /// Makes the reserve, or notes that there is no room for it.
    pub(super) fn new(registry: &Registry, now: Instant) -> Self {
        let look = reserve::ensure(registry).is_err().then_some(now + LOOK);
        if look.is_some() {
            tracing::error!("{}: ends of jobs may be lost", lacking(registry));
        }
        Self { registry: registry.clone(), look, waiting: BTreeMap::new(), ending: BTreeSet::new() }
    }

    /// What there is no room for, in a few words.
    pub(super) fn reason(&self) -> &'static str {
        lacking(&self.registry)
    }

    pub(super) fn is_full(&self) -> bool {
        self.look.is_some()
    }

    /// Notes that there is none.
    pub(super) fn lack(&mut self, now: Instant) {
        if self.look.replace(now + LOOK).is_none() {
            tracing::error!("{}: only the ends of jobs are recorded until there is room", self.reason());
        }
    }

    /// Makes room out of the reserve; returns whether that made any.
    pub(super) fn give_up_reserve(&mut self, now: Instant) -> bool {
        self.lack(now);
        reserve::give_up(&self.registry)
    }

    /// Whether a batch has to be taken although the disk is full: it holds the end of its job, or leads there.
    pub(super) fn wants(&mut self, job: &JobId, has_end: bool) -> bool {
        if has_end {
            self.ending.insert(job.clone());
        }
        self.ending.contains(job)
    }

    /// Lets an agent wait; returns whether this is news.
    pub(super) fn wait(&mut self, job: &JobId, receipts: Receipts) -> bool {
        self.waiting.insert(job.clone(), receipts).is_none()
    }

    /// When to look for room.
    pub(super) fn due(&self) -> Option<Instant> {
        self.look
    }

    /// Looks for room. Where there is some again, whoever waited is told to send everything anew.
    pub(super) fn look(&mut self, now: Instant) {
        if reserve::make(&self.registry).is_err() {
            self.look = Some(now + LOOK);
            return;
        }
        tracing::info!("there is room on the disk of the registry again");
        self.look = None;
        self.ending.clear();
        for (job, receipts) in std::mem::take(&mut self.waiting) {
            let problem = Some("the disk of the relay's registry was full, and has room again".to_owned());
            receipts.post(job, Receipt { problem, ..Receipt::default() });
        }
    }
}

fn lacking(registry: &Registry) -> &'static str {
    if reserve::has_files(registry) { FULL } else { NO_FILES }
}
