//! The relay's time: the wall clock's when the relay starts, and from then on the machine's monotonic clock.
//!
//! ```text
//!  relay starts ──no job there──► scale by the wall clock ──► lease ──► readers on this machine
//!       │ jobs there: the scale of the last relay                └──► each welcome ──► agents, which stamp events with it
//!       ▼
//!  the wall clock is set ──► nothing changes while a job is there, then: scale by the wall clock
//! ```
//!
//! So ages and durations are true however the clocks of relay, agent and readers are set, and times are what the clock said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::time_scale::TimeScale;
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// Distance of the wall clock at which it counts as set. Both clocks are slewed alike, so it is otherwise near zero.
const SET_MS: i64 = 1000;

/// The wall clock's time, to the millisecond: people need no more, and files stay short.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Millisecond).unwrap_or(now)
}

/// A scale of time as other processes of this machine can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootScale {
    /// The kernel's id of the boot that it counts from.
    boot: String,
    /// Time at that boot.
    origin: Timestamp,
}

impl BootScale {
    fn scale(&self) -> Option<TimeScale> {
        (Some(&self.boot) == boot_id().as_ref()).then(|| TimeScale::from_origin(self.origin))
    }

    /// The time now; `None` after another boot, and on another machine.
    pub fn now(&self) -> Option<Timestamp> {
        self.scale().map(|scale| scale.at(since_boot()))
    }
}

/// The relay's own clock. Its copies are one.
#[derive(Debug, Clone)]
pub struct Clock {
    scale: Arc<Mutex<TimeScale>>,
    machine: Machine,
}

/// Source of the time.
#[derive(Debug, Clone)]
enum Machine {
    Real,
    #[cfg(any(test, feature = "internals"))]
    Given(Arc<Mutex<Given>>),
}

/// A machine's clocks, for tests.
#[cfg(any(test, feature = "internals"))]
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// The monotonic one.
    pub monotonic: Duration,
    /// The one that people set.
    pub wall: Timestamp,
}

impl Machine {
    fn monotonic(&self) -> Duration {
        match self {
            Self::Real => since_boot(),
            #[cfg(any(test, feature = "internals"))]
            Self::Given(given) => given.lock().unwrap_or_else(PoisonError::into_inner).monotonic,
        }
    }

    fn wall(&self) -> Timestamp {
        match self {
            Self::Real => now(),
            #[cfg(any(test, feature = "internals"))]
            Self::Given(given) => given.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }
}

impl Clock {
    /// Goes on with the scale of an earlier relay; begins with what the wall clock says where that has none of this boot.
    pub fn new(earlier: Option<&BootScale>) -> Self {
        let clock = Self::by_wall_clock(Machine::Real);
        if let Some(scale) = earlier.and_then(BootScale::scale) {
            *clock.lock() = scale;
        }
        clock
    }

    /// A clock of the given machine.
    #[cfg(any(test, feature = "internals"))]
    pub fn given(machine: Arc<Mutex<Given>>) -> Self {
        Self::by_wall_clock(Machine::Given(machine))
    }

    /// The same clock, as the next relay takes it over.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn handed_over(&self) -> Self {
        Self { scale: Arc::new(Mutex::new(*self.lock())), machine: self.machine.clone() }
    }

    fn by_wall_clock(machine: Machine) -> Self {
        let scale = Arc::new(Mutex::new(TimeScale::anchored(machine.wall(), machine.monotonic())));
        Self { scale, machine }
    }

    fn lock(&self) -> MutexGuard<'_, TimeScale> {
        self.scale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.lock().at(self.machine.monotonic())
    }

    /// The same scale for other processes of this machine; `None` where the system has no clock for that.
    pub fn boot_scale(&self) -> Option<BootScale> {
        Some(BootScale { boot: boot_id()?, origin: self.lock().origin() })
    }

    /// Milliseconds by which the wall clock was set ahead, or back; `None` if it was not.
    pub fn was_set(&self) -> Option<i64> {
        let ahead = self.machine.wall().duration_since(self.now()).as_millis();
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        (ahead.unsigned_abs() > SET_MS.unsigned_abs()).then_some(ahead)
    }

    /// Takes over what the wall clock says. Ages of jobs that are there would change by that.
    pub fn set_by_wall_clock(&self) {
        *self.lock() = TimeScale::anchored(self.machine.wall(), self.machine.monotonic());
    }
}

/// Time since some moment in the past, sleep of the machine included.
#[cfg(target_os = "linux")]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Time since some moment in the past, sleep of the machine included. Elsewhere only the wall clock counts that.
#[cfg(not(target_os = "linux"))]
pub fn since_boot() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Tells the boots of this machine, and other machines, apart.
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "the kernel's file, and none of the registry")]
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Nothing counts from the boot here that other processes could read.
#[cfg(not(target_os = "linux"))]
fn boot_id() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn machine() -> Arc<Mutex<Given>> {
        Arc::new(Mutex::new(Given { monotonic: Duration::from_secs(900), wall: START }))
    }

    fn pass(machine: &Mutex<Given>, seconds: u64, set_by: i64) {
        let mut given = machine.lock().unwrap();
        given.monotonic += Duration::from_secs(seconds);
        given.wall += jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap() + set_by);
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_no_time_until_it_is_taken_over() {
        for set_by in [3600, -3600] {
            let machine = machine();
            let clock = Clock::given(Arc::clone(&machine));
            pass(&machine, 7, 0);
            assert_eq!((clock.now().as_second(), clock.was_set()), (7, None));
            pass(&machine, 1, set_by);
            assert_eq!((clock.now().as_second(), clock.was_set()), (8, Some(set_by * 1000)));
            clock.set_by_wall_clock();
            assert_eq!((clock.now().as_second(), clock.was_set()), (8 + set_by, None));
        }
    }

    #[test]
    fn other_processes_read_the_same_time_until_the_machine_is_booted_again() {
        let clock = Clock::new(None);
        let mut told = clock.boot_scale().unwrap();
        let apart = clock.now().duration_since(told.now().unwrap()).as_millis();
        assert!((-1000..=0).contains(&apart), "{apart} ms");
        told.origin -= jiff::SignedDuration::from_hours(1);
        let earlier = Clock::new(Some(&told));
        assert!(earlier.was_set().is_some_and(|ms| (3_599_000..3_601_000).contains(&ms)));
        told.boot = "another".to_owned();
        assert_eq!((told.now(), Clock::new(Some(&told)).was_set()), (None, None));
    }
}
