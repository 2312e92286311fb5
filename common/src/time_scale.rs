//! Conversion of a monotonic clock's readings to wall time. Pure.
//!
//! A wall clock jumps when it is set, and each machine has its own clock. Times on one scale never jump, and the
//! difference of two is the time that has really elapsed.

use std::time::Duration;

use jiff::{Timestamp, Unit};

/// A time scale, defined by the wall time at which a monotonic clock read zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeScale {
    origin: Timestamp,
}

impl TimeScale {
    /// Creates the scale that gives `wall` when the monotonic clock reads `monotonic`.
    pub fn from_reading(wall: Timestamp, monotonic: Duration) -> Self {
        let origin = wall.checked_sub(monotonic).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { origin: origin.round(Unit::Millisecond).unwrap_or(origin) }
    }

    /// Creates the scale that gives `origin` when the monotonic clock reads zero.
    pub fn from_origin(origin: Timestamp) -> Self {
        Self::from_reading(origin, Duration::ZERO)
    }

    /// Returns the wall time at which the monotonic clock reads zero.
    pub fn origin(self) -> Timestamp {
        self.origin
    }

    /// Returns the wall time at which the monotonic clock reads `monotonic`, to the millisecond.
    pub fn wall_time(self, monotonic: Duration) -> Timestamp {
        let whole_millis = Duration::from_millis(crate::duration::to_millis(monotonic));
        self.origin.checked_add(whole_millis).unwrap_or(Timestamp::MAX)
    }

    /// Creates the scale of another machine, which reported `remote_now` at some moment between the local monotonic
    /// times `request_sent` and `reply_received`. If `local_wall`, the local wall time of the reply, is possible on the
    /// other machine too, it is used unchanged. So clocks that agree are not adjusted after a slow reply.
    pub fn from_remote(
        remote_now: Timestamp,
        request_sent: Duration,
        reply_received: Duration,
        local_wall: Timestamp,
    ) -> Self {
        let latest = remote_now
            .checked_add(reply_received.saturating_sub(request_sent) + MAX_CLOCK_DIFFERENCE)
            .unwrap_or(Timestamp::MAX);
        let agrees = (remote_now.checked_sub(MAX_CLOCK_DIFFERENCE).unwrap_or(Timestamp::MIN)..=latest)
            .contains(&local_wall);
        Self::from_reading(if agrees { local_wall } else { remote_now }, reply_received)
    }
}

/// Maximum difference of two wall clocks that count as equal.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_323_045 + second).unwrap()
    }

    #[test]
    fn times_on_a_scale_differ_by_the_elapsed_monotonic_time() {
        let scale = TimeScale::from_reading(wall(0), s(500));
        assert_eq!((scale.wall_time(s(500)), scale.wall_time(s(512))), (wall(0), wall(12)));
        assert_eq!(TimeScale::from_origin(scale.origin()), scale);
    }

    #[test]
    fn the_other_machine_s_clock_is_used_unless_the_local_clock_agrees_with_it() {
        // All in seconds: reported time, monotonic times of request and reply, local wall time; expected time of the reply.
        let table = [
            ("both agree", 0, (10, 10), 0, 0),
            ("the local clock is 1 h behind", 0, (10, 10), -3600, 0),
            ("the local clock is 1 h ahead", 0, (10, 10), 3600, 0),
            ("both agree, and the answer was under way for 40 s", 0, (10, 50), 40, 40),
            ("the local clock is 1 h behind, and the answer was under way for 40 s", 0, (10, 50), -3560, 0),
        ];
        for (case, remote, (request, reply), local, expected) in table {
            let scale = TimeScale::from_remote(wall(remote), s(request), s(reply), wall(local));
            assert_eq!(scale.wall_time(s(reply)), wall(expected), "{case}");
        }
    }

    #[test]
    fn a_time_out_of_range_becomes_the_epoch_or_the_latest_timestamp() {
        assert_eq!(TimeScale::from_reading(wall(0), Duration::MAX).origin(), Timestamp::UNIX_EPOCH);
        assert_eq!(TimeScale::from_origin(wall(0)).wall_time(Duration::MAX), Timestamp::MAX);
    }
}
