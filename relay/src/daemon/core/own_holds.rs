//! Holds of single jobs. A report of a limit that the relay does not believe holds only the job that sent it: after a
//! pause, which doubles each time, the job goes on. Pure.

use std::collections::BTreeMap;

use common::hold::Hold;
use common::ids::JobId;
use jiff::Timestamp;

use super::account_hold::pause;
use super::account_report::Report;

#[derive(Debug, Default)]
struct OwnHold {
    /// Number of holds so far.
    count: u32,
    /// Hold in force.
    hold: Option<Hold>,
}

/// Jobs that were held because of their own reports.
#[derive(Debug, Default)]
pub(super) struct OwnHolds {
    holds: BTreeMap<JobId, OwnHold>,
}

impl OwnHolds {
    /// Holds a job because of its own report.
    pub(super) fn hold(&mut self, job: &JobId, report: Report, now: Timestamp) {
        let own = self.holds.entry(job.clone()).or_default();
        own.count = own.count.saturating_add(1);
        let next_try_at = now.checked_add(pause(own.count)).ok();
        own.hold = Some(Hold { kind: report.kind, message: report.message, until: None, next_try_at });
    }

    /// Goes on with a hold that an earlier relay recorded. One without a credible end ends at once.
    pub(super) fn adopt(&mut self, job: &JobId, recorded: &Hold, now: Timestamp) {
        let latest = now.checked_add(pause(u32::MAX)).unwrap_or(now);
        let next_try_at = recorded.next_try_at.filter(|at| *at <= latest).or(Some(now));
        let hold = Some(Hold { next_try_at, ..recorded.clone() });
        self.holds.insert(job.clone(), OwnHold { count: 1, hold });
    }

    /// Returns the hold of a job.
    pub(super) fn current(&self, job: &JobId) -> Option<&Hold> {
        self.holds.get(job)?.hold.as_ref()
    }

    /// Returns the time at which [`Self::end_due`] is to be called.
    pub(super) fn next_end_at(&self) -> Option<Timestamp> {
        self.holds.values().filter_map(|own| own.hold.as_ref()?.next_try_at).min()
    }

    /// Ends the holds that are due. Returns true if there were any.
    pub(super) fn end_due(&mut self, now: Timestamp) -> bool {
        let mut has_ended = false;
        for own in self.holds.values_mut() {
            if own.hold.take_if(|hold| hold.next_try_at.is_none_or(|at| at <= now)).is_some() {
                has_ended = true;
            }
        }
        has_ended
    }

    /// Ends all holds, because a person has acted.
    pub(super) fn end_all(&mut self) {
        self.holds.clear();
    }

    /// Forgets a job that has ended.
    pub(super) fn remove(&mut self, job: &JobId) {
        self.holds.remove(job);
    }
}
