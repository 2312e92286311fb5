//! Quarantine of jobs whose files can't be read or written. Their agents keep the events, and other jobs are not
//! affected.
//!
//! ```text
//!            a file of the job fails               pause (1 s … 1 min) is over, and the files can be read
//!   served ──────────────────────────► quarantined ────────────────────────────────────────────────────► served
//!                                         no receipt, no refusal              the agent sends everything again
//! ```
//!
//! The agent's connection stays open until the files can be read, because it carries the agent's other jobs. To send
//! everything again, the agent reconnects. Pure except for the receipt maps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::ids::JobId;

use super::command::{Receipt, Receipts};

/// Minimum time between two checks of a job's files. After a successful check the agent reconnects, which delays each of
/// its jobs by some 100 ms.
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time between two checks of a job's files, which may stay broken for days.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Quarantined jobs. A job whose files can be read again stays quarantined until a commit of the job succeeds.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    jobs: BTreeMap<JobId, QuarantinedJob>,
}

#[derive(Debug)]
struct QuarantinedJob {
    /// Receipt map of the waiting agent's connection; `None` once the agent was asked to send everything again.
    waiting_receipts: Option<Receipts>,
    check_interval: Duration,
    next_check: Instant,
}

impl Quarantine {
    /// Quarantines a job and lets its agent wait. Returns true if the job was not quarantined before.
    pub(super) fn add_job(&mut self, job: &JobId, receipts: Receipts, now: Instant) -> bool {
        let entry = self.jobs.get_mut(job);
        if let Some(QuarantinedJob { waiting_receipts: Some(waiting), .. }) = entry {
            // The agent may have reconnected, so the newest receipt map is stored.
            *waiting = receipts;
            return false;
        }
        let check_interval =
            entry.map_or(MIN_CHECK_INTERVAL, |entry| (entry.check_interval * 2).min(MAX_CHECK_INTERVAL));
        self.jobs.insert(
            job.clone(),
            QuarantinedJob {
                waiting_receipts: Some(receipts),
                check_interval,
                next_check: now + check_interval,
            },
        );
        true
    }

    /// Releases a job after a successful commit. An agent that still waits is asked to send everything again.
    pub(super) fn release_job(&mut self, job: &JobId) {
        if let Some(receipts) = self.jobs.remove(job).and_then(|entry| entry.waiting_receipts) {
            request_resend(job, &receipts);
        }
    }

    pub(super) fn next_check(&self) -> Option<Instant> {
        self.jobs
            .values()
            .filter(|entry| entry.waiting_receipts.is_some())
            .map(|entry| entry.next_check)
            .min()
    }

    pub(super) fn due_jobs(&self, now: Instant) -> Vec<JobId> {
        let due =
            self.jobs.iter().filter(|(_, entry)| entry.waiting_receipts.is_some() && entry.next_check <= now);
        due.map(|(job, _)| job.clone()).collect()
    }

    /// Handles the result of a check of the job's files. If they are readable, asks the agent to send everything again;
    /// if not, doubles the time until the next check.
    pub(super) fn on_check(&mut self, job: &JobId, is_readable: bool, now: Instant) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        if !is_readable {
            entry.check_interval = (entry.check_interval * 2).min(MAX_CHECK_INTERVAL);
            entry.next_check = now + entry.check_interval;
        } else if let Some(receipts) = entry.waiting_receipts.take() {
            request_resend(job, &receipts);
        }
    }
}

fn request_resend(job: &JobId, receipts: &Receipts) {
    let problem = Some("its files can be read again".to_owned());
    receipts.post(job.clone(), Receipt { reconnect_reason: problem, ..Receipt::default() });
}
