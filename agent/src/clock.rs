//! Time limits, and the time they are measured in. Pure.
//!
//! [`WorkTime`] is monotonic time less the pauses: a container that was frozen for five minutes, or a laptop that
//! slept, has not used five minutes of anybody's limit.

use std::time::Duration;

/// The supervisor looks at the clock at least this often, so a longer gap means that nothing at all ran.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How late a look may be on a busy machine before the gap counts as a pause.
const LATE: Duration = Duration::from_secs(1);

/// Time in which the job could have worked.
#[derive(Debug, Default)]
pub(crate) struct WorkTime {
    seen: Duration,
    paused: Duration,
}

impl WorkTime {
    /// The work time at `real`, a monotonic time since the job began.
    pub(crate) fn at(&mut self, real: Duration) -> Duration {
        let gap = real.saturating_sub(self.seen);
        if gap > TICK + LATE {
            self.paused += gap.saturating_sub(TICK);
        }
        self.seen = self.seen.max(real);
        self.seen.saturating_sub(self.paused)
    }
}

/// What a limit has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Half of it is used. Said once.
    Half,
    /// All of it is used.
    Over,
}

/// A time limit that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    started: Duration,
    /// What the limit is measured from: its start, or the last sign of life.
    since: Duration,
    length: Duration,
    warned: bool,
}

impl Limit {
    /// Starts to run at `now`.
    pub(crate) fn new(now: Duration, limit_ms: u64) -> Self {
        Self { started: now, since: now, length: Duration::from_millis(limit_ms), warned: false }
    }

    /// Its length.
    pub(crate) fn length_ms(self) -> u64 {
        common::duration::millis(self.length)
    }

    /// A sign of life: all of the limit is there again.
    pub(crate) fn restart(&mut self, now: Duration) {
        self.since = self.since.max(now);
        self.warned = false;
    }

    /// How long it has run.
    pub(crate) fn elapsed(self, now: Duration) -> Duration {
        now.saturating_sub(self.started)
    }

    /// When it will have something to say.
    pub(crate) fn next(self) -> Duration {
        let after = if self.warned { self.length } else { self.length / 2 };
        self.since.saturating_add(after)
    }

    /// What it has to say at `now`.
    pub(crate) fn check(&mut self, now: Duration) -> Option<Alarm> {
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= self.length {
            self.warned = true;
            return Some(Alarm::Over);
        }
        if !self.warned && elapsed >= self.length / 2 {
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
    fn a_limit_warns_once_at_half_and_then_is_over() {
        let mut limit = Limit::new(s(5), 10_000);
        assert_eq!((limit.check(s(9)), limit.next()), (None, s(10)));
        assert_eq!((limit.check(s(10)), limit.next()), (Some(Alarm::Half), s(15)));
        assert_eq!(limit.check(s(12)), None);
        assert_eq!(limit.check(s(15)), Some(Alarm::Over));
    }

    #[test]
    fn a_sign_of_life_gives_all_of_a_limit_back_and_hides_none_of_the_time() {
        let mut limit = Limit::new(s(0), 10_000);
        assert_eq!(limit.check(s(6)), Some(Alarm::Half));
        limit.restart(s(9));
        assert_eq!((limit.check(s(11)), limit.next(), limit.elapsed(s(11))), (None, s(14), s(11)));
        assert_eq!((limit.check(s(14)), limit.check(s(19))), (Some(Alarm::Half), Some(Alarm::Over)));
    }

    #[test]
    fn limits_of_nothing_and_of_everything_neither_panic_nor_wrap() {
        assert_eq!(Limit::new(s(5), 0).check(s(5)), Some(Alarm::Over));
        let mut endless = Limit::new(s(5), u64::MAX);
        assert_eq!(endless.check(s(1_000_000)), None);
        assert!(endless.next() > s(1_000_000));
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
