//! Progress detection for steps. Pure: takes the total usage of the step's processes.
//!
//! "No progress" can't mean no activity at all: a hung `npm install` still wakes up, rewrites its title and reads the
//! time, which costs 0.5 % of a core and 120 bytes a second. A spinner costs as much. So only CPU time, file bytes and
//! sent bytes above a noise floor count as progress. Received bytes have no such floor: any received byte proves that
//! the peer is alive.

use std::collections::VecDeque;
use std::time::Duration;

use super::resource_usage::UsageTotals;

/// Divisor of the CPU noise floor: using less than this fraction of a core is noise. A waiting `npm` uses half of it.
const CPU_NOISE_DIVISOR: u32 = 100;
/// Noise floor in bytes a second: four times what a waiting `npm` reads and writes.
const IO_NOISE_BYTES_PER_S: u128 = 512;
/// CPU time and bytes that any window of five seconds or more may use in addition to the noise floor. V8 runs one more
/// garbage collection after eight idle seconds, which takes up to a quarter of a second on a busy machine and moves
/// some 20 KB between its threads.
const NOISE_ALLOWANCE: (Duration, u64) = (Duration::from_millis(250), 32 * 1024);
/// Window length for the full allowance. Shorter windows get a proportional part of it.
const ALLOWANCE_WINDOW: Duration = Duration::from_secs(5);
/// Number of samples per window. A stall is detected at most one sample, a hundredth of the window, too late.
const SAMPLES_PER_WINDOW: u32 = 100;

/// Resource usage in a window without progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdleUsage {
    pub(crate) window: Duration,
    /// CPU time used in the window.
    pub(crate) cpu_time: Duration,
    /// Bytes read, written and sent in the window.
    pub(crate) bytes: u64,
}

/// Detector of stalls, with the last samples of a step.
#[derive(Debug)]
pub(crate) struct StallWatch {
    window: Duration,
    samples: VecDeque<(Duration, UsageTotals)>,
    /// True if there was no progress in the last half window.
    was_idle_for_half_window: bool,
}

impl StallWatch {
    /// Creates a detector for windows of `window_ms` milliseconds.
    pub(crate) fn new(window_ms: u64) -> Self {
        Self {
            window: Duration::from_millis(window_ms),
            samples: VecDeque::new(),
            was_idle_for_half_window: false,
        }
    }

    /// Returns the window length, in milliseconds.
    pub(crate) fn window_ms(&self) -> u64 {
        common::duration::to_millis(self.window)
    }

    /// Discards all samples; the next window begins with the next sample.
    pub(crate) fn restart(&mut self) {
        self.samples.clear();
        self.was_idle_for_half_window = false;
    }

    /// Returns true if there was no progress for half a window.
    pub(crate) fn is_idle(&self) -> bool {
        self.was_idle_for_half_window
    }

    /// Adds a sample of the step's total usage; returns the usage of the last window if it had no progress.
    pub(crate) fn add_sample(&mut self, now: Duration, totals: UsageTotals) -> Option<IdleUsage> {
        let sample_interval = self.window / SAMPLES_PER_WINDOW;
        if self.samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= sample_interval) {
            self.samples.push_back((now, totals));
        }
        self.was_idle_for_half_window = self.idle_usage(now, totals, self.window / 2).is_some();
        let begin = now.checked_sub(self.window)?;
        // The newest sample that is at least a window old stays at the front.
        while self.samples.get(1).is_some_and(|(at, _)| *at <= begin) {
            self.samples.pop_front();
        }
        self.idle_usage(now, totals, self.window)
    }

    /// Returns the usage since the newest sample that is at least `window` old, if that usage is only noise.
    fn idle_usage(&self, now: Duration, totals: UsageTotals, window: Duration) -> Option<IdleUsage> {
        let begin = now.checked_sub(window)?;
        let (at, before) = self.samples.iter().rev().find(|(at, _)| *at <= begin)?;
        let time = now.saturating_sub(*at);
        let usage = IdleUsage {
            window: time,
            cpu_time: Duration::from_millis(totals.cpu_ms.saturating_sub(before.cpu_ms)),
            bytes: totals.transferred_bytes.saturating_sub(before.transferred_bytes),
        };
        let part =
            |whole: u128| whole * time.min(ALLOWANCE_WINDOW).as_millis() / ALLOWANCE_WINDOW.as_millis();
        let cpu_noise = part(NOISE_ALLOWANCE.0.as_millis()) + (time / CPU_NOISE_DIVISOR).as_millis();
        let bytes_noise = part(NOISE_ALLOWANCE.1.into()) + time.as_millis() * IO_NOISE_BYTES_PER_S / 1000;
        let is_idle = usage.cpu_time.as_millis() <= cpu_noise
            && u128::from(usage.bytes) <= bytes_noise
            && totals.received_bytes == before.received_bytes;
        is_idle.then_some(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 10_000;

    /// Samples four times a second; returns the time of the stall, in milliseconds.
    fn stall_time(seconds: u64, used: impl Fn(u64) -> UsageTotals) -> Option<u64> {
        let mut watch = StallWatch::new(WINDOW);
        (0..seconds * 4)
            .map(|n| n * 250)
            .find(|ms| watch.add_sample(Duration::from_millis(*ms), used(*ms)).is_some())
    }

    #[test]
    fn an_idle_process_stalls_after_one_window() {
        // As measured with a hung npm: 0.5 % CPU and 120 bytes a second.
        let npm =
            |ms| UsageTotals { cpu_ms: ms / 200, transferred_bytes: ms * 120 / 1000, received_bytes: 7 };
        assert_eq!(stall_time(60, npm), Some(WINDOW));
        assert_eq!(stall_time(60, |_| UsageTotals::default()), Some(WINDOW));
    }

    #[test]
    fn a_late_garbage_collection_is_no_progress() {
        let node = |ms| UsageTotals {
            cpu_ms: if ms < 8500 { 440 } else { 640 },
            transferred_bytes: if ms < 8500 { 0 } else { 19_000 },
            received_bytes: 0,
        };
        assert_eq!(stall_time(60, node), Some(WINDOW));
    }

    #[test]
    fn the_window_begins_with_the_last_progress() {
        let busy_at_first = |ms: u64| UsageTotals { cpu_ms: ms.min(7000), ..UsageTotals::default() };
        let at = stall_time(60, busy_at_first).unwrap();
        assert!((16_500..=17_000).contains(&at), "{at}");
    }

    #[test]
    fn usage_of_every_kind_is_progress() {
        assert_eq!(stall_time(60, |ms| UsageTotals { cpu_ms: ms / 20, ..UsageTotals::default() }), None);
        assert_eq!(
            stall_time(60, |ms| UsageTotals { transferred_bytes: ms * 10, ..UsageTotals::default() }),
            None
        );
        // One byte every nine seconds.
        assert_eq!(
            stall_time(60, |ms| UsageTotals { received_bytes: ms / 9000, ..UsageTotals::default() }),
            None
        );
    }

    #[test]
    fn a_restart_discards_the_samples_and_their_number_is_bounded() {
        let mut watch = StallWatch::new(WINDOW);
        for ms in 0..WINDOW - 1 {
            assert_eq!(watch.add_sample(Duration::from_millis(ms), UsageTotals::default()), None);
        }
        assert!(watch.samples.len() <= SAMPLES_PER_WINDOW as usize + 1);
        watch.restart();
        assert_eq!(watch.add_sample(Duration::from_millis(WINDOW), UsageTotals::default()), None);
    }
}
