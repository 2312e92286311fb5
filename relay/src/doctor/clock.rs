//! Check that the clocks of this machine and of the container, or of the registry's disk, agree. Times in records come
//! only from the relay's clock, but times of files and certificates don't.

use std::time::SystemTime;

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::run_probe;
use super::storage;
use crate::registry::Registry;
use crate::registry::lease::PlatformStatus;

const CLOCK_CHECK: &str = "clock";
/// Maximum difference of two clocks that is not reported, in milliseconds. It includes the duration of a call into a
/// container.
const MAX_DIFFERENCE_MS: u128 = 2000;

/// Compares this machine's clock with the clocks of the container and of the registry's file system.
pub(super) fn check_clocks(context: &CheckContext) -> Vec<Finding> {
    let container = match (&context.config, context.platform()) {
        (Ok(config), Some(PlatformStatus::Ready { .. })) if context.engine.is_container() => {
            Some(config.platform.name.clone()).filter(|_| context.sandbox.is_none())
        }
        _ => None,
    };
    let (other_name, offset) = match container {
        Some(name) => ("the container", container_clock_offset(context.engine.as_str(), &name)),
        None => ("the registry's disk", file_system_clock_offset(&context.registry)),
    };
    vec![match offset {
        Some(offset) => assess_clock(other_name, offset),
        None if context.registry.folder().exists().unwrap_or(true) => {
            Finding::skipped(CLOCK_CHECK, format!("the time of {other_name} could not be read"))
        }
        None => Finding::skipped(CLOCK_CHECK, "there is no registry yet to compare with"),
    }]
}

/// Difference of another clock from this machine's clock, in milliseconds, and its direction.
#[derive(Debug, Clone, Copy)]
struct ClockOffset {
    ms: u128,
    is_ahead: bool,
}

fn clock_offset(other_time: SystemTime, own_time: SystemTime) -> ClockOffset {
    match other_time.duration_since(own_time) {
        Ok(ahead) => ClockOffset { ms: ahead.as_millis(), is_ahead: true },
        Err(behind) => ClockOffset { ms: behind.duration().as_millis(), is_ahead: false },
    }
}

/// Compares the container's clock with this machine's, assuming that it was read halfway through the call.
fn container_clock_offset(engine: &str, container: &str) -> Option<ClockOffset> {
    let called_at = SystemTime::now();
    let output = run_probe(engine, &["exec", container, "date", "-u", "+%s"]);
    let call_duration = called_at.elapsed().ok()?;
    let seconds = output.stdout_on_success()?.parse().ok()?;
    // The other clock reports whole seconds, so it is on average half a second ahead of what it reports.
    let container_time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds) + HALF_SECOND;
    Some(clock_offset(container_time, called_at + call_duration / 2))
}

const HALF_SECOND: std::time::Duration = std::time::Duration::from_millis(500);

fn file_system_clock_offset(registry: &Registry) -> Option<ClockOffset> {
    let file_time = storage::probe_write(registry).ok()?;
    Some(clock_offset(file_time, SystemTime::now()))
}

fn assess_clock(other_name: &str, offset: ClockOffset) -> Finding {
    if offset.ms <= MAX_DIFFERENCE_MS {
        return Finding::ok(CLOCK_CHECK, format!("this machine and {other_name} agree"));
    }
    let (seconds, order) = (offset.ms / 1000, if offset.is_ahead { "ahead of" } else { "behind" });
    Finding::warn(
        CLOCK_CHECK,
        format!(
            "{other_name} is {seconds} s {order} this machine: times of files and certificates are off, those in records are not"
        ),
        "synchronise both clocks (NTP); restart a virtual machine that was asleep, as with `colima restart`",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::finding::State;
    use super::*;

    #[test]
    fn clocks_agree_within_two_seconds() {
        let now = SystemTime::now();
        let assess = |container_time| assess_clock("the container", clock_offset(container_time, now));
        assert_eq!(assess(now).state, State::Ok);
        assert_eq!(assess(now + Duration::from_millis(1900)).state, State::Ok);
        assert!(assess(now + Duration::from_secs(7)).detail.contains("7 s ahead of this machine:"));
        assert!(assess(now - Duration::from_secs(3600)).detail.contains("3600 s behind this machine:"));
    }
}
