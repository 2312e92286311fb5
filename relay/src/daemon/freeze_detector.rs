//! Detects that this process did not run: it was stopped, or the machine slept.

use std::time::Duration;

use tokio::sync::mpsc;

use super::core::Input;
use super::message::Message;
use crate::time;

/// Interval between two checks, and the maximum error of a reported freeze.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum delay of a check that is reported as a freeze. A loaded machine delays a check by less than a second.
const FREEZE_THRESHOLD: Duration = Duration::from_secs(10);

/// Returns the length of a freeze, if there was one, from the times before and after a sleep of [`CHECK_INTERVAL`].
fn freeze_length(before: Duration, after: Duration) -> Option<Duration> {
    let delay = after.saturating_sub(before).saturating_sub(CHECK_INTERVAL);
    (delay >= FREEZE_THRESHOLD).then_some(delay)
}

/// Starts the checks in a separate task, so that a core that waits for a slow disk does not look frozen.
pub(super) fn spawn_checks(core: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        loop {
            let before = time::since_boot();
            tokio::time::sleep(CHECK_INTERVAL).await;
            if let Some(delay) = freeze_length(before, time::since_boot())
                && core.send(Input::ProcessFrozen(delay).into()).await.is_err()
            {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_check_that_is_ten_seconds_late_is_a_freeze() {
        let s = Duration::from_secs;
        assert_eq!(freeze_length(s(100), s(101)), None);
        assert_eq!(freeze_length(s(100), s(110)), None);
        assert_eq!(freeze_length(s(100), s(163)), Some(s(62)));
        assert_eq!(freeze_length(s(100), s(50)), None, "a wall clock that was set back");
    }
}
