//! Jobs whose files can't be read or written: their events wait at their agents, and other jobs are not affected.
//!
//! ```text
//!            a file of the job fails               pause (1 s … 1 min) is over, and its files can be read
//!   served ──────────────────────────► set apart ──────────────────────────────────────────────────────► served
//!                                         no receipt, no refusal              the agent sends everything again
//! ```
//!
//! The connection stays open meanwhile: it carries the other jobs of the agent. Pure except for the maps that it
//! posts to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::ids::JobId;

use super::command::{Receipt, Receipts};

/// Shortest pause. Closing a connection costs each of its jobs some 100 ms.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: a file may stay broken for days.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Jobs that are set apart, or were since their files last worked.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    jobs: BTreeMap<JobId, Quarantined>,
}

#[derive(Debug)]
struct Quarantined {
    /// Map on which the agent waits; `None` once it was notified to send everything again.
    receipts: Option<Receipts>,
    pause: Duration,
    due: Instant,
}

impl Quarantine {
    /// Sets a job apart and lets its agent wait. Returns true if the job was not set apart before.
    pub(super) fn set_apart(&mut self, job: &JobId, receipts: Receipts, now: Instant) -> bool {
        let known = self.jobs.get_mut(job);
        if let Some(Quarantined { receipts: Some(waiting), .. }) = known {
            // The agent may have reconnected: the notification must go to its current connection.
            *waiting = receipts;
            return false;
        }
        let pause = known.map_or(MIN_PAUSE, |apart| (apart.pause * 2).min(MAX_PAUSE));
        self.jobs.insert(job.clone(), Quarantined { receipts: Some(receipts), pause, due: now + pause });
        true
    }

    /// Releases a job whose files work, as a commit has shown. An agent that still waits sends everything again,
    /// whichever event was committed.
    pub(super) fn release(&mut self, job: &JobId) {
        if let Some(receipts) = self.jobs.remove(job).and_then(|apart| apart.receipts) {
            request_resend(job, &receipts);
        }
    }

    /// Returns the time of the next check.
    pub(super) fn due(&self) -> Option<Instant> {
        self.jobs.values().filter(|apart| apart.receipts.is_some()).map(|apart| apart.due).min()
    }

    /// Returns the jobs to check now.
    pub(super) fn due_jobs(&self, now: Instant) -> Vec<JobId> {
        let due = self.jobs.iter().filter(|(_, apart)| apart.receipts.is_some() && apart.due <= now);
        due.map(|(job, _)| job.clone()).collect()
    }

    /// Handles the result of a check: the agent sends everything again, or waits longer.
    pub(super) fn checked(&mut self, job: &JobId, is_readable: bool, now: Instant) {
        let Some(apart) = self.jobs.get_mut(job) else { return };
        if !is_readable {
            apart.pause = (apart.pause * 2).min(MAX_PAUSE);
            apart.due = now + apart.pause;
        } else if let Some(receipts) = apart.receipts.take() {
            request_resend(job, &receipts);
        }
    }
}

fn request_resend(job: &JobId, receipts: &Receipts) {
    let problem = Some("its files can be read again".to_owned());
    receipts.post(job.clone(), Receipt { problem, ..Receipt::default() });
}
