//! Pause before a failed delivery is tried again.

use std::time::Duration;

/// Pause after the first attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Returns the pause after this number of attempts. It doubles with each attempt; `jitter` (0 to 1) chooses a value
/// from its upper half.
pub(super) fn pause_after(attempts: u32, jitter: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let longest = (FIRST_PAUSE * 2u32.pow(doublings)).min(MAX_PAUSE);
    longest.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_five_minutes_and_is_spread() {
        let ms = |attempts, chance| pause_after(attempts, chance).as_millis();
        assert_eq!(
            [1, 2, 3, 9, 10, u32::MAX].map(|n| ms(n, 1.0)),
            [1000, 2000, 4000, 256_000, 300_000, 300_000]
        );
        assert_eq!([1, 3, 99].map(|n| ms(n, 0.0)), [500, 2000, 150_000]);
    }
}
