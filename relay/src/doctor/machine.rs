//! Check that the agent's machine has enough memory and disk space for another job.

use super::context::CheckContext;
use super::finding::Finding;
use crate::machine_text;
use crate::registry::lease::PlatformStatus;

const MACHINE: &str = "machine";

/// Reads the agent's newest measurement from the lease.
pub(super) fn check_machine(context: &CheckContext) -> Vec<Finding> {
    vec![assess_machine(context.platform())]
}

fn assess_machine(platform: Option<&PlatformStatus>) -> Finding {
    let Some(PlatformStatus::Ready { vitals, shortage, .. }) = platform else {
        return Finding::skipped(MACHINE, "no agent is connected that could measure it");
    };
    let Some(vitals) = vitals else {
        return Finding::skipped(MACHINE, "its agent has not measured it");
    };
    match shortage {
        Some(shortage) => Finding::warn(MACHINE, shortage.describe(), shortage.advice()),
        None => Finding::ok(MACHINE, machine_text::full(vitals)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::registry::lease::Lease;

    fn golden() -> PlatformStatus {
        let golden = include_str!("../../../tests/golden/v1/ready-with-shortage.lease.json");
        serde_json::from_str::<Lease>(golden).unwrap().platform
    }

    fn ready(with_vitals: bool, with_shortage: bool) -> PlatformStatus {
        let mut status = golden();
        let PlatformStatus::Ready { vitals, shortage, .. } = &mut status else { panic!("{status:?}") };
        vitals.take_if(|_| !with_vitals);
        shortage.take_if(|_| !with_shortage);
        status
    }

    #[test]
    fn a_machine_has_enough_or_too_little_or_is_unknown() {
        for (platform, state, words) in [
            (
                Some(ready(true, true)),
                State::Warn,
                "the machine has 120 MiB of memory free, less than the reserve",
            ),
            (Some(ready(true, false)), State::Ok, "load 1.52 on 2 cores, 120 MiB of 8 GiB memory free"),
            (Some(ready(false, false)), State::Skipped, "its agent has not measured it"),
            (Some(PlatformStatus::Stopped), State::Skipped, "no agent is connected"),
            (None, State::Skipped, "no agent is connected"),
        ] {
            let found = assess_machine(platform.as_ref());
            assert!(found.state == state && found.detail.starts_with(words), "{found:?}");
            assert_eq!(found.fix.is_some(), state == State::Warn);
        }
    }
}
