//! Jobs whose files can't be read or written: their events wait at their agents, and no other job notices.
//!
//! ```text
//!            a file of the job fails               pause (1 s … 1 min) is over, and its files can be read
//!   served ──────────────────────────► set apart ──────────────────────────────────────────────────────► served
//!                                         no receipt, no refusal              the agent sends everything anew
//! ```
//!
//! The connection is not closed meanwhile: it carries the other jobs of the agent. Pure but for the boards that it posts to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::ids::JobId;

use super::command::{Receipt, Receipts};

/// The first pause. Closing a connection costs all of its jobs some 100 ms.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause: a file may stay broken for days.
const LONGEST: Duration = Duration::from_secs(60);

/// Jobs that are set apart, or have been since their files last worked.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    jobs: BTreeMap<JobId, Apart>,
}

#[derive(Debug)]
struct Apart {
    /// Where the agent waits; none once it was told to send everything anew.
    receipts: Option<Receipts>,
    pause: Duration,
    due: Instant,
}

impl Quarantine {
    /// Sets a job apart, and has its agent wait. Returns whether this is news.
    pub(super) fn set_apart(&mut self, job: &JobId, receipts: Receipts, now: Instant) -> bool {
        let known = self.jobs.get_mut(job);
        if let Some(Apart { receipts: Some(waiting), .. }) = known {
            // It may have come back on another connection: the one that is told has to be there.
            *waiting = receipts;
            return false;
        }
        let pause = known.map_or(SHORTEST, |apart| (apart.pause * 2).min(LONGEST));
        self.jobs.insert(job.clone(), Apart { receipts: Some(receipts), pause, due: now + pause });
        true
    }

    /// The files of a job work, as a commit has shown. Whatever that was of, an agent that still waits sends everything anew.
    pub(super) fn heal(&mut self, job: &JobId) {
        if let Some(receipts) = self.jobs.remove(job).and_then(|apart| apart.receipts) {
            send_anew(job, &receipts);
        }
    }

    /// When to look at a job again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.jobs.values().filter(|apart| apart.receipts.is_some()).map(|apart| apart.due).min()
    }

    /// The jobs to look at now.
    pub(super) fn to_look_at(&self, now: Instant) -> Vec<JobId> {
        let due = self.jobs.iter().filter(|(_, apart)| apart.receipts.is_some() && apart.due <= now);
        due.map(|(job, _)| job.clone()).collect()
    }

    /// What a look has found: the agent is to send everything anew, or waits on.
    pub(super) fn looked(&mut self, job: &JobId, is_readable: bool, now: Instant) {
        let Some(apart) = self.jobs.get_mut(job) else { return };
        if !is_readable {
            apart.pause = (apart.pause * 2).min(LONGEST);
            apart.due = now + apart.pause;
        } else if let Some(receipts) = apart.receipts.take() {
            send_anew(job, &receipts);
        }
    }
}

fn send_anew(job: &JobId, receipts: &Receipts) {
    let problem = Some("its files can be read again".to_owned());
    receipts.post(job.clone(), Receipt { problem, ..Receipt::default() });
}
