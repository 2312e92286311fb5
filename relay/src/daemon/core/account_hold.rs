//! Hold of the queue while the account can't use the model. Pure.
//!
//! ```text
//!  free ──limit reported──► held ──its end is known and has come──────────────► free
//!                            │ ▲ its end is not known: after a pause
//!                            ▼ │ limit reported again: longer pause
//!                          one job tries ──the model answers──────────────────► free
//! ```
//!
//! A job that does not begin to try within the first pause is replaced by the next one, and one that has begun gets
//! [`MAX_PAUSE`]. `relay up` ends every hold but that of a day whose budget is used up. Refused credentials hold until new
//! ones, an answer, or a new relay.
//!
//! Workers are not trusted: an end that only Codex's words name is believed for [`MAX_PAUSE`], then another job tries.

use std::collections::BTreeMap;

use common::event::FailureKind;
use common::hold::{Hold, is_plausible_end};
use common::ids::JobId;
use common::job::StepKind;
use common::record::{JobRecord, State};
use jiff::{SignedDuration, Timestamp};

use super::account_report::{Report, Source};

/// Time from the end of a limit to the next try: the server's clock may be slightly behind.
const MARGIN: SignedDuration = SignedDuration::from_secs(1);
/// First pause before a try if the end of the limit is not known. It doubles with each try.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// Longest pause before a try, unless the model's server has named the end of the limit.
const MAX_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// Pause before the next search for a job that can try, while all jobs lack an agent or a slot.
const SEARCH_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// Number of holds in a row whose end is believed without a pause. A server that always names an instant shortly ahead
/// would otherwise be asked without end.
const MAX_BELIEVED: u32 = 3;
/// Time after a hold in which another one counts as its continuation.
const CONTINUATION: SignedDuration = SignedDuration::from_mins(5);

/// Job that tries whether a limit has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) job: JobId,
    started_at: Timestamp,
}

impl Probe {
    /// Returns true if the job may go on with its try, if it has begun.
    pub(super) fn has_time(&self, now: Timestamp) -> bool {
        after(MAX_PAUSE, self.started_at) > now
    }

    /// Returns true if the model has answered the job. `is_problem_over` is true if the record has no problem any more.
    pub(super) fn has_answer(&self, record: &JobRecord, is_problem_over: bool) -> bool {
        let is_of_relay =
            |kind| matches!(kind, StepKind::Clone | StepKind::Model | StepKind::Setup | StepKind::Start);
        let mut steps = record.steps.iter();
        let has_step = steps.any(|step| step.started_at > self.started_at && !is_of_relay(step.kind));
        has_step || is_problem_over || record.state == State::Completed
    }
}

/// Consequence of a due try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    /// The hold has ended.
    Ended,
    /// One job should try whether the limit has ended, unless one is doing so.
    ChooseProbe,
}

/// State of the hold.
#[derive(Debug, Clone, Default)]
pub(super) struct AccountHold {
    hold: Option<Hold>,
    probe: Option<Probe>,
    /// Earliest time of the next try, because no job could try before.
    search_at: Option<Timestamp>,
    /// Number of holds and failed tries in a row.
    count: u32,
    /// Job whose report has set the hold.
    reporter: Option<JobId>,
    /// Number of tries of each job, with the report that has set the hold.
    tries: BTreeMap<JobId, u32>,
    /// End of the last hold that ended by itself.
    ended_at: Option<Timestamp>,
}

impl AccountHold {
    /// Returns the hold in force.
    pub(super) fn current(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    pub(super) fn probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }

    /// Returns the job whose report has set the hold.
    pub(super) fn reporter(&self) -> Option<&JobId> {
        self.reporter.as_ref()
    }

    /// Returns the number of times that a job has tried during the hold.
    pub(super) fn tries_of(&self, job: &JobId) -> u32 {
        self.tries.get(job).copied().unwrap_or(0)
    }

    /// Returns true if the budget of the day is used up.
    pub(super) fn is_for_budget(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.kind == FailureKind::BudgetExceeded)
    }

    /// Sets the hold of a day whose budget is used up. A limit that lasts longer stays.
    pub(super) fn hold_for_budget(&mut self, hold: Hold) {
        if self.hold.as_ref().is_none_or(|current| current.until < hold.until) {
            self.end(None);
            self.hold = Some(hold);
        }
    }

    /// Returns true if credentials were refused.
    pub(super) fn is_for_credentials(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.kind == FailureKind::Auth)
    }

    /// Returns the time of the next try.
    pub(super) fn next_try_at(&self) -> Option<Timestamp> {
        let planned = self.hold.as_ref()?.next_try_at?;
        Some(self.search_at.map_or(planned, |at| at.max(planned)))
    }

    /// Goes on with a hold that an earlier relay recorded, unless one that lasts longer is in force.
    pub(super) fn adopt(&mut self, recorded: &Hold, now: Timestamp) {
        // The relay knows anew what was used today, and the credentials may be others by now.
        if matches!(recorded.kind, FailureKind::BudgetExceeded | FailureKind::Auth) {
            return;
        }
        let planned = recorded.next_try_at.or(recorded.until).unwrap_or(now);
        let next_try_at = Some(if planned <= now || is_plausible_end(planned, now) { planned } else { now });
        if self.hold.as_ref().is_none_or(|hold| hold.next_try_at < next_try_at) {
            self.hold = Some(Hold { next_try_at, ..recorded.clone() });
            self.count = 1;
        }
    }

    /// Handles a report of `job`. Returns true if the hold has changed.
    pub(super) fn report(&mut self, job: &JobId, report: Report, now: Timestamp) -> bool {
        let ends_at = report.ends_at.filter(|end| is_plausible_end(*end, now));
        let has_probe_failed = self.probe.as_ref().is_some_and(|probe| probe.job == *job);
        if let Some(hold) = self.hold.as_ref().filter(|_| !has_probe_failed) {
            // Jobs that run beside each other report the same limit. The latest end that one of them names counts.
            if hold.kind == FailureKind::Auth || ends_at.is_none() || hold.until >= ends_at {
                return false;
            }
        } else {
            let is_continuation = |ended: Timestamp| now.duration_since(ended) < CONTINUATION;
            let in_a_row = has_probe_failed || self.ended_at.is_some_and(is_continuation);
            self.count = if in_a_row { self.count.saturating_add(1) } else { 1 };
        }
        self.probe = None;
        self.search_at = None;
        if !has_probe_failed {
            self.reporter = Some(job.clone());
            self.count_try(job);
        }
        let next_try_at = match (report.kind, report.source) {
            (FailureKind::Auth, _) => None,
            (_, Source::Codex) => Some(self.next_try(ends_at, now).min(after(MAX_PAUSE, now))),
            _ => Some(self.next_try(ends_at, now)),
        };
        self.hold = Some(Hold { kind: report.kind, message: report.message, until: ends_at, next_try_at });
        true
    }

    fn next_try(&self, ends_at: Option<Timestamp>, now: Timestamp) -> Timestamp {
        let after_pause = |count| after(pause(count), now);
        match ends_at {
            None => after_pause(self.count),
            Some(end) => {
                let end = end.checked_add(MARGIN).unwrap_or(end);
                if self.count > MAX_BELIEVED { end.max(after_pause(self.count - MAX_BELIEVED)) } else { end }
            }
        }
    }

    /// Handles the time: a try may be due.
    pub(super) fn check_time(&mut self, now: Timestamp) -> Option<Try> {
        self.next_try_at().filter(|at| *at <= now)?;
        if self.hold.as_ref().is_some_and(|hold| hold.until.is_some_and(|until| until <= now)) {
            self.end(Some(now));
            return Some(Try::Ended);
        }
        Some(Try::ChooseProbe)
    }

    /// Gives more time to a job that tries.
    pub(super) fn extend_probe(&mut self, now: Timestamp) {
        if let Some(hold) = &mut self.hold {
            hold.next_try_at = now.checked_add(FIRST_PAUSE).ok();
        }
    }

    /// Handles a due try that no job can make at the moment.
    pub(super) fn postpone_try(&mut self, now: Timestamp) {
        self.search_at = now.checked_add(SEARCH_PAUSE).ok();
    }

    /// Lets a job try.
    pub(super) fn start_probe(&mut self, job: JobId, now: Timestamp) {
        self.count_try(&job);
        self.probe = Some(Probe { job, started_at: now });
        self.search_at = None;
        self.extend_probe(now);
    }

    /// Forgets a probe that ended without news about the limit: another job tries at once.
    pub(super) fn drop_probe(&mut self, now: Timestamp) {
        self.probe = None;
        if let Some(hold) = &mut self.hold {
            hold.next_try_at = Some(now);
        }
    }

    /// Ends the hold. `ended_at` is the time of an end that the account may contradict; `None` for a new beginning.
    pub(super) fn end(&mut self, ended_at: Option<Timestamp>) {
        self.hold = None;
        self.probe = None;
        self.search_at = None;
        self.reporter = None;
        self.tries.clear();
        self.ended_at = ended_at;
    }

    fn count_try(&mut self, job: &JobId) {
        let tries = self.tries.entry(job.clone()).or_default();
        *tries = tries.saturating_add(1);
    }
}

fn after(pause: SignedDuration, now: Timestamp) -> Timestamp {
    now.checked_add(pause).unwrap_or(now)
}

/// Returns the pause before the next try.
pub(super) fn pause(count: u32) -> SignedDuration {
    let doublings = count.saturating_sub(1).min(16);
    FIRST_PAUSE.checked_mul(1 << doublings).map_or(MAX_PAUSE, |pause| pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_764_352_800 + second).unwrap()
    }

    fn job(text: &str) -> JobId {
        text.parse().unwrap()
    }

    fn limit(ends_at: Option<i64>) -> Report {
        let message = "used up".to_owned();
        Report { kind: FailureKind::UsageLimit, message, ends_at: ends_at.map(at), source: Source::NewAnswer }
    }

    /// Reports limits of job `a#1`, and returns the seconds until the next try.
    fn report(state: &mut AccountHold, ends_at: Option<i64>, now: i64) -> i64 {
        assert!(state.report(&job("a#1"), limit(ends_at), at(now)));
        state.next_try_at().unwrap().as_second() - at(now).as_second()
    }

    #[test]
    fn a_hold_ends_when_the_limit_ends() {
        let mut state = AccountHold::default();
        assert_eq!(report(&mut state, Some(60), 0), 61);
        assert_eq!(state.check_time(at(60)), None);
        assert!(!state.report(&job("b#1"), limit(Some(50)), at(5)));
        assert!(state.report(&job("b#1"), limit(Some(70)), at(5)));
        assert_eq!((state.check_time(at(70)), state.check_time(at(71))), (None, Some(Try::Ended)));
        assert_eq!((state.current(), state.next_try_at()), (None, None));
    }

    #[test]
    fn an_end_that_only_codex_names_is_believed_for_an_hour() {
        let mut state = AccountHold::default();
        let claim = |ends_at| Report { source: Source::Codex, ..limit(Some(ends_at)) };
        let next = |state: &AccountHold| state.next_try_at().unwrap().as_second() - at(0).as_second();
        assert!(state.report(&job("a#1"), claim(600), at(0)));
        assert_eq!(next(&state), 601);
        assert!(state.report(&job("b#1"), claim(90 * 24 * 3600), at(0)));
        assert_eq!((next(&state), state.current().unwrap().until), (3600, Some(at(90 * 24 * 3600))));
        assert_eq!(state.check_time(at(3600)), Some(Try::ChooseProbe));
        state.start_probe(job("c#1"), at(3600));
        assert_eq!(["a#1", "b#1", "c#1", "d#1"].map(|name| state.tries_of(&job(name))), [1, 1, 1, 0]);
    }

    #[test]
    fn an_end_that_is_not_believed_is_an_unknown_end() {
        for end in [None, Some(-10), Some(0), Some(365 * 24 * 3600)] {
            let mut state = AccountHold::default();
            assert_eq!(report(&mut state, end, 0), 300, "{end:?}");
            assert_eq!(state.current().unwrap().until, None);
        }
    }

    #[test]
    fn the_pause_doubles_while_tries_fail_up_to_an_hour() {
        let mut state = AccountHold::default();
        let mut now = 0;
        let mut pauses = vec![report(&mut state, None, now)];
        for _ in 0..5 {
            now += pauses.last().unwrap();
            assert_eq!(state.check_time(at(now)), Some(Try::ChooseProbe));
            state.start_probe(job("a#1"), at(now));
            assert!(!state.report(&job("b#1"), limit(None), at(now)));
            pauses.push(report(&mut state, None, now));
        }
        assert_eq!(pauses, [300, 600, 1200, 2400, 3600, 3600]);
        // A hold long after the last one begins anew.
        state.end(Some(at(now)));
        assert_eq!(report(&mut state, None, now + 400), 300);
    }

    #[test]
    fn an_end_that_is_always_shortly_ahead_is_believed_three_times() {
        let mut state = AccountHold::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..5 {
            pauses.push(report(&mut state, Some(now + 1), now));
            now += pauses.last().unwrap();
            assert_eq!(state.check_time(at(now)), Some(Try::Ended));
        }
        assert_eq!(pauses, [2, 2, 2, 300, 600]);
        state.end(None);
        assert_eq!(report(&mut state, Some(now + 1), now), 2);
    }

    #[test]
    fn refused_credentials_hold_the_queue_until_somebody_acts() {
        let mut state = AccountHold::default();
        let refused = Report { kind: FailureKind::Auth, ..limit(None) };
        assert!(state.report(&job("a#1"), refused, at(0)));
        assert_eq!((state.next_try_at(), state.check_time(Timestamp::MAX)), (None, None));
        state.end(None);
        assert_eq!(state.current(), None);
    }

    #[test]
    fn a_recorded_hold_goes_on_and_one_without_a_credible_end_is_tried_at_once() {
        let adopt = |kind, until: Option<i64>, next_try_at: Option<i64>| {
            let message = String::new();
            let hold = Hold { kind, message, until: until.map(at), next_try_at: next_try_at.map(at) };
            let mut state = AccountHold::default();
            state.adopt(&hold, at(0));
            state.next_try_at()
        };
        let kind = FailureKind::UsageLimit;
        assert_eq!(adopt(kind, Some(60), Some(61)), Some(at(61)));
        assert_eq!(adopt(kind, None, Some(-5)), Some(at(-5)));
        assert_eq!(adopt(kind, Some(60), None), Some(at(60)));
        assert_eq!(adopt(kind, None, None), Some(at(0)));
        assert_eq!(adopt(kind, None, Some(365 * 24 * 3600)), Some(at(0)));
        // The credentials may be others by now.
        assert_eq!(adopt(FailureKind::Auth, None, Some(60)), None);
    }

    #[test]
    fn a_probe_that_works_gets_more_time_and_one_that_says_nothing_is_replaced() {
        let mut state = AccountHold::default();
        report(&mut state, None, 0);
        state.start_probe(job("a#1"), at(300));
        assert_eq!((state.check_time(at(599)), state.check_time(at(600))), (None, Some(Try::ChooseProbe)));
        state.extend_probe(at(600));
        assert_eq!((state.check_time(at(600)), state.next_try_at()), (None, Some(at(900))));
        assert_eq!([3899, 3900].map(|now| state.probe().unwrap().has_time(at(now))), [true, false]);
        state.drop_probe(at(700));
        assert_eq!(state.check_time(at(700)), Some(Try::ChooseProbe));
    }

    #[test]
    fn while_no_job_can_try_one_is_searched_every_few_seconds() {
        let mut state = AccountHold::default();
        report(&mut state, None, 0);
        state.postpone_try(at(300));
        assert_eq!((state.check_time(at(304)), state.check_time(at(305))), (None, Some(Try::ChooseProbe)));
    }
}
