//! Detects that this process did not run: it was stopped, or the machine slept.

use std::time::Duration;

use tokio::sync::mpsc;

use super::core::Input;
use super::message::Message;
use crate::time;

/// Interval between two beats; a reported freeze is shorter than the real one by less than this.
const INTERVAL: Duration = Duration::from_secs(1);
/// Delay of a beat from which a freeze is reported. A loaded machine delays it by less than a second.
const FREEZE_THRESHOLD: Duration = Duration::from_secs(10);

/// Returns how long nothing ran, from the clock before and after a sleep of [`INTERVAL`].
fn freeze_length(before: Duration, after: Duration) -> Option<Duration> {
    let late = after.saturating_sub(before).saturating_sub(INTERVAL);
    (late >= FREEZE_THRESHOLD).then_some(late)
}

/// Starts the beats on a task of their own, beside the core: a core that waits for a slow disk was not stopped.
pub(super) fn spawn(core: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        loop {
            let before = time::since_boot();
            tokio::time::sleep(INTERVAL).await;
            if let Some(late) = freeze_length(before, time::since_boot())
                && core.send(Input::Frozen(late).into()).await.is_err()
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
    fn only_a_beat_that_is_very_late_is_a_freeze() {
        let s = Duration::from_secs;
        assert_eq!(freeze_length(s(100), s(101)), None);
        assert_eq!(freeze_length(s(100), s(110)), None);
        assert_eq!(freeze_length(s(100), s(163)), Some(s(62)));
        assert_eq!(freeze_length(s(100), s(50)), None, "a wall clock that was set back");
    }
}
