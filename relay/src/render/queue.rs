//! Text of the reason why a job is queued.

use common::duration;
use common::record::JobRecord;
use common::text_format;

use super::hold_text::hold_text;
use super::{RelayState, View};
use crate::plural;
use crate::registry::lease::PlatformStatus;

/// Maximum length of the platform's detail in a reason, in bytes: four lines of a terminal.
const MAX_DETAIL_BYTES: usize = 300;

/// Returns the reason why a job is queued, in one line.
pub fn queue_reason_of(record: &JobRecord, view: &View) -> String {
    if let Some(reason) = platform_reason(view) {
        return reason;
    }
    if let Some(hold) = &record.held {
        return hold_text(hold, view);
    }
    match (view.queue.waiting.get(&record.job), &record.waiting) {
        (Some(reason), _) => reason.to_string(),
        (None, Some(reason)) => reason.clone(),
        (None, None) => position_reason(view, view.queue.position(&record.job)),
    }
}

/// Returns the reason why no queued job starts, in one line; `None` if jobs start as slots become free.
pub fn platform_reason(view: &View) -> Option<String> {
    Some(match &view.relay {
        RelayState::Down => "no relay is running: `relay up` starts it".to_owned(),
        RelayState::Silent { pid, for_ms } => silent_relay_message(*pid, *for_ms),
        RelayState::Up(PlatformStatus::Starting { detail }) => {
            format!("the platform is starting: {}", text_format::one_line(detail, MAX_DETAIL_BYTES))
        }
        RelayState::Up(PlatformStatus::Failed { detail }) => {
            format!(
                "the platform can't be started: {}; retrying",
                text_format::one_line(detail, MAX_DETAIL_BYTES)
            )
        }
        RelayState::Up(PlatformStatus::Stopped) => "the platform is stopped: `relay up` starts it".to_owned(),
        RelayState::Up(PlatformStatus::Ready { shortage: Some(shortage), .. }) => {
            format!("{}; {}", shortage.describe(), shortage.advice())
        }
        RelayState::Up(PlatformStatus::Ready { .. }) => return None,
    })
}

fn position_reason(view: &View, jobs_ahead: usize) -> String {
    let position = match jobs_ahead {
        0 => "next in line".to_owned(),
        jobs_ahead => plural::format_count(jobs_ahead as u64, "job ahead", "jobs ahead"),
    };
    match &view.relay {
        RelayState::Up(PlatformStatus::Ready { max_jobs, .. }) => {
            let held = match view.queue.held_count {
                0 => String::new(),
                1 => ", 1 by a held job".to_owned(),
                held => format!(", {held} by held jobs"),
            };
            format!("{position} ({} of {max_jobs} slots busy{held})", view.queue.busy_count)
        }
        _ => position,
    }
}

/// Returns the message for a relay that holds the registry but does not report.
pub fn silent_relay_message(pid: u32, for_ms: u64) -> String {
    let silence = duration::format_duration(for_ms);
    format!(
        "the relay (process {pid}) has been silent for {silence}; if that lasts, end it and run `relay up`"
    )
}

#[cfg(test)]
mod tests {
    use common::ids::JobId;
    use common::record::State;
    use common::wait_reason::WaitReason;

    use super::super::samples;
    use super::*;
    use crate::min_free::{Resource, Shortage};

    #[test]
    fn each_reason_names_what_the_job_waits_for() {
        let mut view = samples::view(0);
        let jobs: Vec<JobId> = ["a#1", "a#2", "a#3"].map(|job| job.parse().unwrap()).into();
        view.queue.ready.clone_from(&jobs);
        let queued = |job: &JobId| samples::minimal_record(&job.to_string(), State::Queued);
        assert_eq!(queue_reason_of(&queued(&jobs[2]), &view), "2 jobs ahead (4 of 4 slots busy)");
        assert_eq!(queue_reason_of(&queued(&jobs[1]), &view), "1 job ahead (4 of 4 slots busy)");
        view.queue.held_count = 1;
        let expected = "next in line (4 of 4 slots busy, 1 by a held job)";
        assert_eq!(queue_reason_of(&queued(&jobs[0]), &view), expected);
        view.queue.held_count = 3;
        let expected = "next in line (4 of 4 slots busy, 3 by held jobs)";
        assert_eq!(queue_reason_of(&queued(&jobs[0]), &view), expected);
        let reason = WaitReason::Dependency { job: jobs[1].clone(), more: 0 };
        view.queue.waiting.insert(jobs[0].clone(), reason);
        assert_eq!(queue_reason_of(&queued(&jobs[0]), &view), "waits for a#2 (--after)");
        let mut waiting = queued(&jobs[2]);
        waiting.waiting = Some("waits for b#1".to_owned());
        assert_eq!(queue_reason_of(&waiting, &view), "waits for b#1");
        let failed = PlatformStatus::Failed { detail: "docker is not running\nstart it".into() };
        let RelayState::Up(mut with_shortage) = view.relay.clone() else { panic!("{view:?}") };
        if let PlatformStatus::Ready { shortage, .. } = &mut with_shortage {
            let (available, minimum) = (3 << 29, 1 << 31);
            *shortage = Some(Shortage { resource: Resource::Workspaces, available, minimum });
        }
        for (relay, expected) in [
            (RelayState::Down, "no relay is running: `relay up` starts it"),
            (
                RelayState::Silent { pid: 7, for_ms: 20_000 },
                "the relay (process 7) has been silent for 20.0s; if that lasts, end it and run `relay up`",
            ),
            (
                RelayState::Up(with_shortage),
                "the machine has 1.5 GiB free on the disk of the workspaces, less than the reserve of 2 GiB ([platform] min_free_disk); queued jobs start when there is more: delete what is not needed, or lower the setting",
            ),
            (RelayState::Up(PlatformStatus::Stopped), "the platform is stopped: `relay up` starts it"),
            (RelayState::Up(failed), "the platform can't be started: docker is not running; retrying"),
        ] {
            view.relay = relay;
            assert_eq!(queue_reason_of(&queued(&jobs[0]), &view), expected);
            assert_eq!(queue_reason_of(&waiting, &view), expected, "the platform comes first");
        }
    }
}
