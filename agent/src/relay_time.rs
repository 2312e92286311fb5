//! Clock of the agent that follows the relay's time.
//!
//! ```text
//!  agent starts: its own wall clock ──welcome──► the relay's time ──welcome──► …
//!                                                     └── a job is accepted: the job keeps this scale to its end
//! ```
//!
//! The welcome, the relay's answer to the agent's hello, has the relay's time. Clocks of two machines differ, and users
//! set clocks while jobs run. So all events of a job have timestamps on one scale, which advances with the monotonic
//! clock, also while the machine sleeps.

#![cfg_attr(
    not(feature = "internals"),
    expect(unreachable_pub, reason = "the simulation uses this clock, too")
)]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::time_scale::TimeScale;
use jiff::Timestamp;

/// Difference between the agent's and the relay's clock above which a warning is logged.
const MAX_DRIFT: Duration = Duration::from_secs(2);

/// Clock that follows the relay's time.
#[derive(Debug)]
pub struct RelayTime {
    scale: Mutex<TimeScale>,
    clock_source: ClockSource,
}

/// Clocks that a [`RelayTime`] reads.
#[derive(Debug, Clone)]
pub enum ClockSource {
    /// Clocks of this machine.
    Real,
    /// Clocks that a test sets.
    #[cfg(any(test, feature = "internals"))]
    Simulated(std::sync::Arc<Mutex<SimulatedClocks>>),
}

/// Clocks of a machine, for tests.
#[cfg(any(test, feature = "internals"))]
#[derive(Debug, Clone, Copy)]
pub struct SimulatedClocks {
    /// Monotonic clock.
    pub monotonic: Duration,
    /// Wall clock, which users can set.
    pub wall: Timestamp,
}

impl ClockSource {
    fn monotonic(&self) -> Duration {
        match self {
            Self::Real => time_including_sleep(),
            #[cfg(any(test, feature = "internals"))]
            Self::Simulated(simulated) => simulated.lock().unwrap_or_else(PoisonError::into_inner).monotonic,
        }
    }

    fn wall(&self) -> Timestamp {
        match self {
            Self::Real => Timestamp::now(),
            #[cfg(any(test, feature = "internals"))]
            Self::Simulated(simulated) => simulated.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }
}

impl RelayTime {
    /// Creates the clock of an agent, which follows the agent's own wall clock until the first welcome.
    pub(crate) fn new(clock_source: ClockSource) -> Self {
        let scale = Mutex::new(TimeScale::from_reading(clock_source.wall(), clock_source.monotonic()));
        Self { scale, clock_source }
    }

    fn lock_scale(&self) -> MutexGuard<'_, TimeScale> {
        self.scale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a reading of the monotonic clock.
    pub fn monotonic(&self) -> Duration {
        self.clock_source.monotonic()
    }

    /// Returns the scale for the events of a job that is accepted now.
    pub(crate) fn scale(&self) -> TimeScale {
        *self.lock_scale()
    }

    /// Returns the current time on `scale`, or on the agent's current scale if `scale` is `None`.
    pub(crate) fn now(&self, scale: Option<TimeScale>) -> Timestamp {
        scale.unwrap_or_else(|| self.scale()).wall_time(self.monotonic())
    }

    /// Adjusts the current scale to the relay's time. `hello_sent` is the monotonic time at which the hello was sent,
    /// and `relay_now` is the relay's time in the welcome.
    pub fn synchronize(&self, hello_sent: Duration, relay_now: Timestamp) {
        let (received_at, wall) = (self.monotonic(), self.clock_source.wall());
        let scale = TimeScale::from_remote(relay_now, hello_sent, received_at, wall);
        *self.lock_scale() = scale;
        let drift = wall.duration_since(scale.wall_time(received_at));
        if drift.unsigned_abs() > MAX_DRIFT {
            let (span, direction) =
                (drift.unsigned_abs(), if drift.is_negative() { "behind" } else { "ahead of" });
            // Rounded to seconds, because the welcome was in transit for a moment.
            let span =
                common::duration::format_duration((common::duration::to_millis(span) + 500) / 1000 * 1000);
            tracing::warn!(
                "the clock here is {span} {direction} the relay's: times follow the relay's clock"
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn time_including_sleep() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns the time of the wall clock in place of a monotonic one: on other systems than Linux, `Instant` may stop
/// while the machine sleeps.
#[cfg(not(target_os = "linux"))]
fn time_including_sleep() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_job_keeps_its_scale_however_clocks_are_set_and_relays_change() {
        let hour = SignedDuration::from_hours(1);
        let relay = Timestamp::from_second(1_767_323_045).unwrap();
        let simulated = SimulatedClocks { monotonic: Duration::from_secs(50), wall: relay - hour };
        let machine = Arc::new(Mutex::new(simulated));
        let time = RelayTime::new(ClockSource::Simulated(Arc::clone(&machine)));
        assert_eq!(time.now(None), relay - hour, "nothing else is known");
        time.synchronize(Duration::from_secs(50), relay);
        let job = Some(time.scale());

        machine.lock().unwrap().wall += hour;
        machine.lock().unwrap().monotonic += Duration::from_secs(12);
        let later = relay + Duration::from_secs(12);
        assert_eq!((time.now(None), time.now(job)), (later, later), "the agent's own clock was set");
        time.synchronize(Duration::from_secs(62), relay + hour * 2);
        assert_eq!((time.now(None), time.now(job)), (relay + hour * 2, later), "the relay's clock was set");
    }
}
