//! The wall clock, and the one that counts a machine's sleep.

use std::time::Duration;

use jiff::{Timestamp, Unit};

/// Now, to the millisecond: what people read needs no more, and files stay short.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Millisecond).unwrap_or(now)
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
