//! Detects a connection on which nothing arrives any more. Pure.
//!
//! ```text
//!  received ──DEAD_AFTER──► over
//!               └─ checked late: this process was stopped ──RECHECK_DELAY──► over
//! ```

use std::time::Duration;

use common::wire;
use tokio::time::Instant;

/// Delay of a timer beyond which this process was stopped: the runtime checks sockets and timers far more often.
const MAX_TIMER_DELAY: Duration = Duration::from_millis(100);
/// Extra time to read what waits in the sockets of a thousand agents.
const RECHECK_DELAY: Duration = Duration::from_secs(1);

/// Idle timeout of one connection.
#[derive(Debug)]
pub(super) struct IdleTimeout {
    until: Instant,
}

impl IdleTimeout {
    /// Restarts the timeout: something was received at `now`.
    pub(super) fn starting_at(now: Instant) -> Self {
        Self { until: now + wire::DEAD_AFTER }
    }

    /// Time of the next check.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Returns true if the other side is gone. After a stop of this process, frames may wait unread: the deadline moves
    /// a little.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let Some(late) = now.checked_duration_since(self.until) else { return false };
        if late > MAX_TIMER_DELAY {
            self.until = now + RECHECK_DELAY;
        }
        late <= MAX_TIMER_DELAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_comes_late_proves_nothing_and_is_taken_again() {
        let now = Instant::now();
        let mut idle_timeout = IdleTimeout::starting_at(now);
        let due = idle_timeout.until();
        assert_eq!(due - now, wire::DEAD_AFTER);
        assert!(!idle_timeout.is_over(due - Duration::from_millis(1)));
        let woken = due + Duration::from_secs(60);
        assert!(!idle_timeout.is_over(woken), "it was stopped");
        assert!(idle_timeout.is_over(idle_timeout.until()));
        assert!(IdleTimeout::starting_at(now).is_over(due));
    }
}
