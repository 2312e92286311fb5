//! Detects silent connections. Pure.
//!
//! ```text
//!  frame received ──DEAD_AFTER──► expired
//!                      └─ checked late: this process was frozen ──RECHECK_DELAY──► expired
//! ```

use std::time::Duration;

use common::wire;
use tokio::time::Instant;

/// Maximum delay of a check of the timeout. A longer delay means that this process was frozen (SIGSTOP, suspend):
/// normally the runtime checks sockets and timers far more often.
const MAX_TIMER_DELAY: Duration = Duration::from_millis(100);
/// Extra time after this process was frozen, to read the pending data of a thousand agents.
const RECHECK_DELAY: Duration = Duration::from_secs(1);

/// Idle timeout of one connection.
#[derive(Debug)]
pub(super) struct IdleTimeout {
    deadline: Instant,
}

impl IdleTimeout {
    /// Starts the timeout at `now`, when a frame was received.
    pub(super) fn starting_at(now: Instant) -> Self {
        Self { deadline: now + wire::DEAD_AFTER }
    }

    /// Returns the time of the next check.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns true if the other side is gone. If this process was frozen, it may not have read all received frames
    /// yet: then the deadline is extended instead.
    pub(super) fn check_expired(&mut self, now: Instant) -> bool {
        let Some(delay) = now.checked_duration_since(self.deadline) else { return false };
        if delay > MAX_TIMER_DELAY {
            self.deadline = now + RECHECK_DELAY;
        }
        delay <= MAX_TIMER_DELAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_comes_late_does_not_expire_and_is_repeated() {
        let now = Instant::now();
        let mut idle_timeout = IdleTimeout::starting_at(now);
        let due = idle_timeout.deadline();
        assert_eq!(due - now, wire::DEAD_AFTER);
        assert!(!idle_timeout.check_expired(due - Duration::from_millis(1)));
        let late_check = due + Duration::from_secs(60);
        assert!(!idle_timeout.check_expired(late_check), "this process was frozen");
        assert!(idle_timeout.check_expired(idle_timeout.deadline()));
        assert!(IdleTimeout::starting_at(now).check_expired(due));
    }
}
