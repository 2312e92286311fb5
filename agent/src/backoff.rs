//! Pauses between attempts to connect: exponential backoff with full jitter. Pure: the caller passes the random number.

use std::time::Duration;

/// Upper bound of the first pause.
const FIRST_BOUND: Duration = Duration::from_millis(100);
/// Upper bound of every pause. With it, all agents reconnect within 5 s after their relay has returned.
const MAX_BOUND: Duration = Duration::from_secs(5);

/// Sequence of pauses that grow until it is reset.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Returns the next pause: from a tenth of the bound (`random` is 0) to the whole bound (`u32::MAX`), linear in
    /// `random`. Without the tenth, small random numbers could cause a busy loop.
    pub(crate) fn next_pause(&mut self, random: u32) -> Duration {
        let bound = FIRST_BOUND.saturating_mul(2_u32.saturating_pow(self.attempts)).min(MAX_BOUND);
        self.attempts = self.attempts.saturating_add(1);
        let floor = bound / 10;
        floor + bound.saturating_sub(floor).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Starts again from the first pause. Called after the relay accepted the connection.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum_and_a_reset_starts_over() {
        let mut backoff = Backoff::default();
        let bounds: Vec<_> = (0..8).map(|_| backoff.next_pause(u32::MAX).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next_pause(0).as_millis(), 10);
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.next_pause(u32::MAX), MAX_BOUND);
        // Agents that lost their relay at the same time reconnect at different times.
        assert_eq!([0, u32::MAX / 2].map(|random| backoff.next_pause(random).as_millis()), [500, 2749]);
    }
}
