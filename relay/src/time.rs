//! Time of the relay: it starts with the wall clock, and then follows the machine's monotonic clock. The assignment of
//! times to readings of the monotonic clock is called a time scale.
//!
//! ```text
//!  relay starts ──no job left──► scale by the wall clock ──► lease ──► readers on this machine
//!       │ jobs left: the scale of the last relay            └──► each welcome ──► agents, which stamp events
//!       ▼
//!  the wall clock is set ──► nothing changes while a job is left, then: scale by the wall clock
//! ```
//!
//! Ages and durations are therefore correct even if the clocks of relay, agent and readers are set meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::time_scale::TimeScale;
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// Minimum difference from the relay's time at which the wall clock counts as set, in milliseconds. Normally the
/// difference is near zero.
const MIN_CLOCK_STEP_MS: i64 = 1000;

/// Returns the wall clock's time, rounded to milliseconds.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Millisecond).unwrap_or(now)
}

/// Time scale that other processes of this machine can use until the machine boots again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootScale {
    /// The kernel's id of the boot that the scale counts from.
    boot: String,
    origin: Timestamp,
}

impl BootScale {
    fn scale(&self) -> Option<TimeScale> {
        (Some(&self.boot) == boot_id().as_ref()).then(|| TimeScale::from_origin(self.origin))
    }

    /// Returns the current time; `None` if the machine has booted since, or on another machine.
    pub fn now(&self) -> Option<Timestamp> {
        self.scale().map(|scale| scale.wall_time(since_boot()))
    }
}

/// Clock of the relay. All copies share one time scale.
#[derive(Debug, Clone)]
pub struct Clock {
    scale: Arc<Mutex<TimeScale>>,
    source: ClockSource,
}

/// Source of readings of the clocks.
#[derive(Debug, Clone)]
enum ClockSource {
    Real,
    #[cfg(any(test, feature = "internals"))]
    Simulated(Arc<Mutex<SimulatedTime>>),
}

/// Readings of a machine's clocks, for tests.
#[cfg(any(test, feature = "internals"))]
#[derive(Debug, Clone, Copy)]
pub struct SimulatedTime {
    /// Monotonic clock.
    pub monotonic: Duration,
    /// Wall clock.
    pub wall: Timestamp,
}

impl ClockSource {
    fn monotonic_time(&self) -> Duration {
        match self {
            Self::Real => since_boot(),
            #[cfg(any(test, feature = "internals"))]
            Self::Simulated(simulated) => simulated.lock().unwrap_or_else(PoisonError::into_inner).monotonic,
        }
    }

    fn wall_time(&self) -> Timestamp {
        match self {
            Self::Real => now(),
            #[cfg(any(test, feature = "internals"))]
            Self::Simulated(simulated) => simulated.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }
}

impl Clock {
    /// Continues the scale of an earlier relay; starts with the wall clock if there is no scale of this boot.
    pub fn new(earlier_scale: Option<&BootScale>) -> Self {
        let clock = Self::by_wall_clock(ClockSource::Real);
        if let Some(scale) = earlier_scale.and_then(BootScale::scale) {
            *clock.lock_scale() = scale;
        }
        clock
    }

    /// Creates a clock that reads the given clocks.
    #[cfg(any(test, feature = "internals"))]
    pub fn simulated(machine: Arc<Mutex<SimulatedTime>>) -> Self {
        Self::by_wall_clock(ClockSource::Simulated(machine))
    }

    /// Returns a clock with the same time scale for the next relay of a simulation.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn for_next_relay(&self) -> Self {
        Self { scale: Arc::new(Mutex::new(*self.lock_scale())), source: self.source.clone() }
    }

    fn by_wall_clock(source: ClockSource) -> Self {
        let scale =
            Arc::new(Mutex::new(TimeScale::from_reading(source.wall_time(), source.monotonic_time())));
        Self { scale, source }
    }

    fn lock_scale(&self) -> MutexGuard<'_, TimeScale> {
        self.scale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.lock_scale().wall_time(self.source.monotonic_time())
    }

    /// Returns the scale for other processes of this machine; `None` if the system has no suitable clock.
    pub fn boot_scale(&self) -> Option<BootScale> {
        Some(BootScale { boot: boot_id()?, origin: self.lock_scale().origin() })
    }

    /// Returns the milliseconds by which the wall clock was set ahead, or back if negative; `None` if it was not set.
    pub fn wall_clock_step_ms(&self) -> Option<i64> {
        let ahead_ms = self.source.wall_time().duration_since(self.now()).as_millis();
        let ahead_ms = i64::try_from(ahead_ms).unwrap_or(i64::MAX);
        (ahead_ms.unsigned_abs() > MIN_CLOCK_STEP_MS.unsigned_abs()).then_some(ahead_ms)
    }

    /// Adopts the wall clock's time. Only for a relay without jobs, because the ages of jobs would change.
    pub fn set_by_wall_clock(&self) {
        *self.lock_scale() = TimeScale::from_reading(self.source.wall_time(), self.source.monotonic_time());
    }
}

/// Returns the time since a fixed moment in the past, including the machine's sleep.
#[cfg(target_os = "linux")]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns the time since a fixed moment in the past, including the machine's sleep. On these systems only the wall
/// clock includes the sleep.
#[cfg(not(target_os = "linux"))]
pub fn since_boot() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Returns the id of the current boot, which differs between boots and between machines.
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "a file of the kernel, not of the registry")]
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Returns `None`: these systems have no boot clock that other processes could read.
#[cfg(not(target_os = "linux"))]
pub fn boot_id() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn test_machine() -> Arc<Mutex<SimulatedTime>> {
        Arc::new(Mutex::new(SimulatedTime { monotonic: Duration::from_secs(900), wall: START }))
    }

    fn advance(machine: &Mutex<SimulatedTime>, seconds: u64, set_by: i64) {
        let mut simulated = machine.lock().unwrap();
        simulated.monotonic += Duration::from_secs(seconds);
        simulated.wall += jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap() + set_by);
    }

    #[test]
    fn a_set_wall_clock_does_not_change_the_time_until_it_is_adopted() {
        for set_by in [3600, -3600] {
            let machine = test_machine();
            let clock = Clock::simulated(Arc::clone(&machine));
            advance(&machine, 7, 0);
            assert_eq!((clock.now().as_second(), clock.wall_clock_step_ms()), (7, None));
            advance(&machine, 1, set_by);
            assert_eq!((clock.now().as_second(), clock.wall_clock_step_ms()), (8, Some(set_by * 1000)));
            clock.set_by_wall_clock();
            assert_eq!((clock.now().as_second(), clock.wall_clock_step_ms()), (8 + set_by, None));
        }
    }

    #[test]
    fn other_processes_read_the_same_time_until_the_machine_is_booted_again() {
        let clock = Clock::new(None);
        let mut scale = clock.boot_scale().unwrap();
        let difference_ms = clock.now().duration_since(scale.now().unwrap()).as_millis();
        assert!((-1000..=0).contains(&difference_ms), "{difference_ms} ms");
        scale.origin -= jiff::SignedDuration::from_hours(1);
        let earlier = Clock::new(Some(&scale));
        assert!(earlier.wall_clock_step_ms().is_some_and(|ms| (3_599_000..3_601_000).contains(&ms)));
        scale.boot = "another".to_owned();
        assert_eq!((scale.now(), Clock::new(Some(&scale)).wall_clock_step_ms()), (None, None));
    }
}
