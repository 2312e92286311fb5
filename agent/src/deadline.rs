//! Timers of time limits, and the clock that they are measured with. Pure.
//!
//! [`WorkClock`] is monotonic time without the pauses of the machine: if a container is frozen or a laptop sleeps for
//! five minutes, these minutes do not count towards any limit. One [`TICK`] of each pause counts as work time.
//! Otherwise a machine too busy for the regular checks would pause every limit for ever.

#![cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation measures its limits with it")
)]

use std::time::Duration;

use common::rule::OnLimit;

/// Interval of the supervisor's checks. A gap that exceeds it by more than [`BUSY_DELAY`] is a pause of the machine.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// Maximum delay of a check that counts as the effect of a busy machine, not as a pause of the machine.
const BUSY_DELAY: Duration = Duration::from_secs(1);

/// Clock of a job's work time: the time in which the job could work.
#[derive(Debug, Default)]
pub struct WorkClock {
    last_real: Duration,
    pause_total: Duration,
    /// True while the job can't work, or the agent can't observe it.
    on_hold: bool,
}

impl WorkClock {
    /// Advances the clock to `real`, a monotonic time since the job began. Returns the work time at that moment.
    pub fn advance_to(&mut self, real: Duration) -> Duration {
        let gap = real.saturating_sub(self.last_real);
        if self.on_hold {
            self.pause_total += gap;
        } else if gap > TICK + BUSY_DELAY {
            self.pause_total += gap.saturating_sub(TICK);
        }
        self.last_real = self.last_real.max(real);
        self.last_real.saturating_sub(self.pause_total)
    }

    /// Stops the clock at `real`, or lets it run again.
    pub(crate) fn set_on_hold(&mut self, real: Duration, on_hold: bool) {
        self.advance_to(real);
        self.on_hold = on_hold;
    }
}

/// Action at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Emit a warning.
    Warn,
    /// Fail the job.
    Fail,
    /// End the step; the job goes on.
    Interrupt,
}

impl From<OnLimit> for Action {
    fn from(on_limit: OnLimit) -> Self {
        match on_limit {
            OnLimit::Fail => Self::Fail,
            OnLimit::Interrupt => Self::Interrupt,
        }
    }
}

/// Event of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerEvent {
    /// Half of the limit is used. Reported once per limit.
    HalfUsed,
    /// The whole limit is used.
    Expired,
}

/// Timer of a limit. The timer of a step is paused while a nested step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    limit: Duration,
    used: Duration,
    /// Time since which the timer runs; `None` while it is paused.
    running_since: Option<Duration>,
    /// True once [`TimerEvent::HalfUsed`] was reported for this limit.
    half_reported: bool,
    action: Action,
}

impl Timer {
    /// Starts a timer that runs from `now` on.
    pub fn new(now: Duration, limit_ms: u64, action: Action) -> Self {
        let limit = Duration::from_millis(limit_ms);
        Self { limit, used: Duration::ZERO, running_since: Some(now), half_reported: false, action }
    }

    /// Returns the limit in milliseconds.
    pub(crate) fn limit_ms(self) -> u64 {
        common::duration::to_millis(self.limit)
    }

    pub(crate) fn action(self) -> Action {
        self.action
    }

    /// Returns how much of the limit is used.
    pub(crate) fn used(self, now: Duration) -> Duration {
        self.used.saturating_add(self.running_since.map_or(Duration::ZERO, |since| now.saturating_sub(since)))
    }

    /// Pauses the timer until [`Timer::resume`].
    pub(crate) fn pause(&mut self, now: Duration) {
        self.used = self.used(now);
        self.running_since = None;
    }

    pub(crate) fn resume(&mut self, now: Duration) {
        self.running_since.get_or_insert(now);
    }

    /// Restarts the timer from zero.
    pub(crate) fn restart(&mut self, now: Duration) {
        *self = Self::new(now, self.limit_ms(), self.action);
    }

    /// Extends the limit. `HalfUsed` will be reported again for the new limit.
    pub(crate) fn extend(&mut self, by_ms: u64) {
        self.limit = self.limit.saturating_add(Duration::from_millis(by_ms));
        self.half_reported = false;
    }

    /// Returns the time of the next event, or `None` while the timer is paused.
    pub(crate) fn next_event(self) -> Option<Duration> {
        let at = if self.half_reported { self.limit } else { self.limit / 2 };
        Some(self.running_since?.saturating_add(at.saturating_sub(self.used)))
    }

    /// Returns the event that is due at `now`.
    pub fn check(&mut self, now: Duration) -> Option<TimerEvent> {
        self.running_since?;
        let used = self.used(now);
        if used >= self.limit {
            self.half_reported = true;
            return Some(TimerEvent::Expired);
        }
        if !self.half_reported && used >= self.limit / 2 {
            self.half_reported = true;
            return Some(TimerEvent::HalfUsed);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_timer_warns_once_at_half_and_then_expires() {
        let mut timer = Timer::new(s(5), 10_000, Action::Fail);
        assert_eq!((timer.check(s(9)), timer.next_event()), (None, Some(s(10))));
        assert_eq!((timer.check(s(10)), timer.next_event()), (Some(TimerEvent::HalfUsed), Some(s(15))));
        assert_eq!(timer.check(s(12)), None);
        assert_eq!(timer.check(s(15)), Some(TimerEvent::Expired));
    }

    #[test]
    fn a_paused_timer_uses_nothing_and_reports_nothing() {
        let mut timer = Timer::new(s(0), 10_000, Action::Fail);
        timer.pause(s(4));
        assert_eq!((timer.check(s(100)), timer.next_event(), timer.used(s(100))), (None, None, s(4)));
        timer.resume(s(100));
        assert_eq!((timer.next_event(), timer.used(s(102))), (Some(s(101)), s(6)));
        timer.resume(s(105));
        assert_eq!(timer.check(s(106)), Some(TimerEvent::Expired));
    }

    #[test]
    fn an_extended_limit_warns_at_its_new_half() {
        let mut timer = Timer::new(s(0), 10_000, Action::Fail);
        assert_eq!(timer.check(s(5)), Some(TimerEvent::HalfUsed));
        timer.extend(10_000);
        assert_eq!(
            (timer.check(s(9)), timer.check(s(10)), timer.next_event()),
            (None, Some(TimerEvent::HalfUsed), Some(s(20)))
        );
    }

    #[test]
    fn zero_and_maximal_limits_neither_panic_nor_wrap() {
        assert_eq!(Timer::new(s(5), 0, Action::Warn).check(s(5)), Some(TimerEvent::Expired));
        let mut endless = Timer::new(s(5), u64::MAX, Action::Warn);
        endless.extend(u64::MAX);
        assert_eq!(endless.check(s(1_000_000)), None);
        assert!(endless.next_event() > Some(s(1_000_000)));
    }

    #[test]
    fn time_on_hold_is_no_work_time() {
        let mut time = WorkClock::default();
        time.set_on_hold(s(1), true);
        assert_eq!((time.advance_to(s(2)), time.advance_to(s(60))), (s(1), s(1)));
        time.set_on_hold(s(100), false);
        assert_eq!(time.advance_to(s(101)), s(2));
    }

    #[test]
    fn pauses_are_no_work_time_and_a_busy_machine_is_no_pause() {
        let mut time = WorkClock::default();
        assert_eq!(time.advance_to(s(1)), s(1));
        assert_eq!(time.advance_to(Duration::from_millis(2900)), Duration::from_millis(2900));
        assert_eq!(time.advance_to(Duration::from_millis(302_900)), Duration::from_millis(3900));
        assert_eq!(time.advance_to(Duration::from_millis(303_900)), Duration::from_millis(4900));
    }
}
