//! Time limits, and the time they are measured in. Pure.
//!
//! [`WorkTime`] is monotonic time less the pauses: a container that was frozen for five minutes, or a laptop that
//! slept, has not used five minutes of anybody's limit. Of each pause a [`TICK`] is counted, since what came right
//! before it is not known: none at all would let a machine that is too busy to look hold every limit for ever.

use std::time::Duration;

use common::rule::OnLimit;

/// The supervisor looks at the clock at least this often, so a longer gap means that nothing at all ran.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How late a look may be on a busy machine before the gap counts as a pause.
const LATE: Duration = Duration::from_secs(1);

/// Time in which the job could have worked.
#[derive(Debug, Default)]
pub(crate) struct WorkTime {
    seen: Duration,
    paused: Duration,
    /// The job is kept from working, or we from seeing that it works.
    held: bool,
}

impl WorkTime {
    /// The work time at `real`, a monotonic time since the job began.
    pub(crate) fn at(&mut self, real: Duration) -> Duration {
        let gap = real.saturating_sub(self.seen);
        if self.held {
            self.paused += gap;
        } else if gap > TICK + LATE {
            self.paused += gap.saturating_sub(TICK);
        }
        self.seen = self.seen.max(real);
        self.seen.saturating_sub(self.paused)
    }

    /// From `real` on the time is held, or is not.
    pub(crate) fn hold(&mut self, real: Duration, held: bool) {
        self.at(real);
        self.held = held;
    }
}

/// What happens when a clock runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A warning, and nothing else.
    Warn,
    /// The job fails.
    Fail,
    /// The step is ended, the job goes on.
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

/// What a clock has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Half of the limit is used. Said once for each limit.
    Half,
    /// All of it is used.
    Over,
}

/// A time limit that runs, or is held while something inside has a clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    limit: Duration,
    used: Duration,
    /// Since when it runs; none while it is held.
    since: Option<Duration>,
    warned: bool,
    action: Action,
}

impl Clock {
    /// Starts to run at `now`.
    pub(crate) fn new(now: Duration, limit_ms: u64, action: Action) -> Self {
        let limit = Duration::from_millis(limit_ms);
        Self { limit, used: Duration::ZERO, since: Some(now), warned: false, action }
    }

    /// Its limit.
    pub(crate) fn limit_ms(self) -> u64 {
        common::duration::millis(self.limit)
    }

    /// What happens when it runs out.
    pub(crate) fn action(self) -> Action {
        self.action
    }

    /// How much of the limit is used.
    pub(crate) fn used(self, now: Duration) -> Duration {
        self.used.saturating_add(self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since)))
    }

    /// Stops it until [`Clock::go_on`].
    pub(crate) fn hold(&mut self, now: Duration) {
        self.used = self.used(now);
        self.since = None;
    }

    /// Lets it run again.
    pub(crate) fn go_on(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    /// Begins anew.
    pub(crate) fn restart(&mut self, now: Duration) {
        *self = Self::new(now, self.limit_ms(), self.action);
    }

    /// Moves the limit; half of the new one is warned of again.
    pub(crate) fn extend(&mut self, by_ms: u64) {
        self.limit = self.limit.saturating_add(Duration::from_millis(by_ms));
        self.warned = false;
    }

    /// When it will have something to say.
    pub(crate) fn next(self) -> Option<Duration> {
        let at = if self.warned { self.limit } else { self.limit / 2 };
        Some(self.since?.saturating_add(at.saturating_sub(self.used)))
    }

    /// What it has to say at `now`.
    pub(crate) fn check(&mut self, now: Duration) -> Option<Alarm> {
        self.since?;
        let used = self.used(now);
        if used >= self.limit {
            self.warned = true;
            return Some(Alarm::Over);
        }
        if !self.warned && used >= self.limit / 2 {
            self.warned = true;
            return Some(Alarm::Half);
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
    fn a_clock_warns_once_at_half_and_then_is_over() {
        let mut clock = Clock::new(s(5), 10_000, Action::Fail);
        assert_eq!((clock.check(s(9)), clock.next()), (None, Some(s(10))));
        assert_eq!((clock.check(s(10)), clock.next()), (Some(Alarm::Half), Some(s(15))));
        assert_eq!(clock.check(s(12)), None);
        assert_eq!(clock.check(s(15)), Some(Alarm::Over));
    }

    #[test]
    fn a_held_clock_uses_nothing_and_says_nothing() {
        let mut clock = Clock::new(s(0), 10_000, Action::Fail);
        clock.hold(s(4));
        assert_eq!((clock.check(s(100)), clock.next(), clock.used(s(100))), (None, None, s(4)));
        clock.go_on(s(100));
        assert_eq!((clock.next(), clock.used(s(102))), (Some(s(101)), s(6)));
        clock.go_on(s(105));
        assert_eq!(clock.check(s(106)), Some(Alarm::Over));
    }

    #[test]
    fn a_moved_limit_warns_at_its_own_half() {
        let mut clock = Clock::new(s(0), 10_000, Action::Fail);
        assert_eq!(clock.check(s(5)), Some(Alarm::Half));
        clock.extend(10_000);
        assert_eq!(
            (clock.check(s(9)), clock.check(s(10)), clock.next()),
            (None, Some(Alarm::Half), Some(s(20)))
        );
    }

    #[test]
    fn limits_of_nothing_and_of_everything_neither_panic_nor_wrap() {
        assert_eq!(Clock::new(s(5), 0, Action::Warn).check(s(5)), Some(Alarm::Over));
        let mut endless = Clock::new(s(5), u64::MAX, Action::Warn);
        endless.extend(u64::MAX);
        assert_eq!(endless.check(s(1_000_000)), None);
        assert!(endless.next() > Some(s(1_000_000)));
    }

    #[test]
    fn held_time_counts_for_nothing() {
        let mut time = WorkTime::default();
        time.hold(s(1), true);
        assert_eq!((time.at(s(2)), time.at(s(60))), (s(1), s(1)));
        time.hold(s(100), false);
        assert_eq!(time.at(s(101)), s(2));
    }

    #[test]
    fn pauses_are_not_work_and_a_busy_machine_is_no_pause() {
        let mut time = WorkTime::default();
        assert_eq!(time.at(s(1)), s(1));
        assert_eq!(time.at(Duration::from_millis(2900)), Duration::from_millis(2900));
        assert_eq!(time.at(Duration::from_millis(302_900)), Duration::from_millis(3900));
        assert_eq!(time.at(Duration::from_millis(303_900)), Duration::from_millis(4900));
    }
}
