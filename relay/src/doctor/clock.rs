//! Comparison of clocks. Times in records come only from the relay's clock, but times of files and certificates don't.

use std::time::SystemTime;

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::run_probe;
use super::storage;
use crate::registry::Registry;
use crate::registry::lease::PlatformStatus;

const CLOCK_CHECK: &str = "clock";
/// Maximum difference that is not reported, in milliseconds. It includes the duration of a call into a container.
const TOLERANCE_MS: u128 = 2000;

/// Compares this machine's clock with the clocks of the container and of the registry's file system.
pub(super) fn check_clocks(context: &CheckContext) -> Vec<Finding> {
    let container = match (&context.config, context.platform()) {
        (Ok(config), Some(PlatformStatus::Ready { .. })) if context.engine.is_container() => {
            Some(config.platform.name.clone()).filter(|_| context.sandbox.is_none())
        }
        _ => None,
    };
    let (other, there) = match container {
        Some(name) => ("the container", container_clock_offset(context.engine.as_str(), &name)),
        None => ("the registry's disk", file_system_clock_offset(&context.registry)),
    };
    vec![match there {
        Some(ahead) => assess_clock(other, ahead),
        None if context.registry.folder().exists().unwrap_or(true) => {
            Finding::skipped(CLOCK_CHECK, format!("the time of {other} could not be read"))
        }
        None => Finding::skipped(CLOCK_CHECK, "there is no registry yet to compare with"),
    }]
}

/// Difference of a clock in milliseconds, and its direction.
#[derive(Debug, Clone, Copy)]
struct ClockOffset {
    ms: u128,
    ahead: bool,
}

fn clock_offset(there: SystemTime, here: SystemTime) -> ClockOffset {
    match there.duration_since(here) {
        Ok(ahead) => ClockOffset { ms: ahead.as_millis(), ahead: true },
        Err(behind) => ClockOffset { ms: behind.duration().as_millis(), ahead: false },
    }
}

/// Compares with the container's clock, assuming that it was read halfway through the call.
fn container_clock_offset(engine: &str, container: &str) -> Option<ClockOffset> {
    let before = SystemTime::now();
    let output = run_probe(engine, &["exec", container, "date", "-u", "+%s"]);
    let call = before.elapsed().ok()?;
    let seconds = output.stdout_on_success()?.parse().ok()?;
    // The other clock reports whole seconds, so it is on average half a second ahead of what it reports.
    let there = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds) + HALF_SECOND;
    Some(clock_offset(there, before + call / 2))
}

const HALF_SECOND: std::time::Duration = std::time::Duration::from_millis(500);

fn file_system_clock_offset(registry: &Registry) -> Option<ClockOffset> {
    let there = storage::probe_write(registry).ok()?;
    Some(clock_offset(there, SystemTime::now()))
}

fn assess_clock(other: &str, offset: ClockOffset) -> Finding {
    if offset.ms <= TOLERANCE_MS {
        return Finding::ok(CLOCK_CHECK, format!("this machine and {other} agree"));
    }
    let (seconds, order) = (offset.ms / 1000, if offset.ahead { "ahead of" } else { "behind" });
    Finding::warn(
        CLOCK_CHECK,
        format!(
            "{other} is {seconds} s {order} this machine: times of files and certificates are off, those in records are not"
        ),
        "synchronise it (NTP); a virtual machine that slept: restart it, as with `colima restart`",
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
        let judged = |there| assess_clock("the container", clock_offset(there, now));
        assert_eq!(judged(now).state, State::Ok);
        assert_eq!(judged(now + Duration::from_millis(1900)).state, State::Ok);
        assert!(judged(now + Duration::from_secs(7)).detail.contains("7 s ahead of this machine:"));
        assert!(judged(now - Duration::from_secs(3600)).detail.contains("3600 s behind this machine:"));
    }
}
