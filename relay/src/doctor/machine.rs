//! Check that the agent's machine has enough memory and disk space for another job.

use super::context::CheckContext;
use super::finding::Finding;
use crate::machine_text;
use crate::registry::lease::PlatformStatus;

const MACHINE_CHECK: &str = "machine";

/// Assesses the newest vitals of the agent's machine, which are in the lease.
pub(super) fn check_machine(context: &CheckContext) -> Vec<Finding> {
    vec![assess_machine(context.platform())]
}

fn assess_machine(platform: Option<&PlatformStatus>) -> Finding {
    let Some(PlatformStatus::Ready { vitals, shortage, .. }) = platform else {
        return Finding::skipped(MACHINE_CHECK, "no agent is connected that could measure it");
    };
    let Some(vitals) = vitals else {
        return Finding::skipped(MACHINE_CHECK, "its agent has not measured it");
    };
    match shortage {
        Some(shortage) => Finding::warn(MACHINE_CHECK, shortage.describe(), shortage.advice()),
        None => Finding::ok(MACHINE_CHECK, machine_text::full_text(vitals)),
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

    fn ready(has_vitals: bool, has_shortage: bool) -> PlatformStatus {
        let mut status = golden();
        let PlatformStatus::Ready { vitals, shortage, .. } = &mut status else { panic!("{status:?}") };
        vitals.take_if(|_| !has_vitals);
        shortage.take_if(|_| !has_shortage);
        status
    }

    #[test]
    fn a_machine_has_enough_or_too_little_or_is_unknown() {
        for (platform, state, detail_start) in [
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
            let finding = assess_machine(platform.as_ref());
            assert!(finding.state == state && finding.detail.starts_with(detail_start), "{finding:?}");
            assert_eq!(finding.fix.is_some(), state == State::Warn);
        }
    }
}
