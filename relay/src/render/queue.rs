//! Reason why a job is queued.

use common::duration;
use common::record::JobRecord;
use common::text_format;

use super::{RelayState, View};
use crate::plural;
use crate::registry::lease::PlatformStatus;

/// Maximum length of the reason, in bytes: two lines of a terminal.
const MAX_REASON: usize = 300;

/// Returns the reason why a job is queued, in one line.
pub fn queue_reason(view: &View) -> String {
    reason_with_jobs_ahead(view, view.ahead)
}

/// Returns the reason why this job is queued.
pub fn queue_reason_of(record: &JobRecord, view: &View) -> String {
    if let Some(reason) = &record.waiting
        && matches!(view.relay, RelayState::Up(PlatformStatus::Ready { shortage: None, .. }))
    {
        return reason.clone();
    }
    let position = view.queue.iter().position(|queued| *queued == record.job);
    reason_with_jobs_ahead(view, position.unwrap_or(view.ahead))
}

fn reason_with_jobs_ahead(view: &View, ahead: usize) -> String {
    match &view.relay {
        RelayState::Down => "no relay is running: `relay up` starts it".to_owned(),
        RelayState::Silent { pid, for_ms } => silent_relay_message(*pid, *for_ms),
        RelayState::Up(PlatformStatus::Starting { detail }) => {
            format!("the platform is starting: {}", text_format::one_line(detail, MAX_REASON))
        }
        RelayState::Up(PlatformStatus::Failed { detail }) => {
            format!("the platform can't be started: {}; retrying", text_format::one_line(detail, MAX_REASON))
        }
        RelayState::Up(PlatformStatus::Stopped) => "the platform is stopped: `relay up` starts it".to_owned(),
        RelayState::Up(PlatformStatus::Ready { shortage: Some(shortage), .. }) => {
            format!("{}; {}", shortage.describe(), shortage.advice())
        }
        RelayState::Up(PlatformStatus::Ready { max_jobs, .. }) => {
            let position = match ahead {
                0 => "next in line".to_owned(),
                ahead => plural::format_count(ahead as u64, "job ahead", "jobs ahead"),
            };
            format!("{position} ({} of {max_jobs} slots busy)", view.busy)
        }
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
    use common::record::State;

    use super::super::samples;
    use super::*;
    use crate::min_free::{Resource, Shortage};

    #[test]
    fn every_reason_says_what_is_the_matter() {
        let mut view = samples::view(0);
        view.ahead = 2;
        assert_eq!(queue_reason(&view), "2 jobs ahead (4 of 4 slots busy)");
        view.ahead = 1;
        assert_eq!(queue_reason(&view), "1 job ahead (4 of 4 slots busy)");
        let mut waiting = samples::bare("a#1", State::Queued);
        waiting.waiting = Some("waits for b#1".to_owned());
        assert_eq!(queue_reason_of(&waiting, &view), "waits for b#1");
        let failed = PlatformStatus::Failed { detail: "docker is not running\nstart it".into() };
        let RelayState::Up(mut short) = view.relay.clone() else { panic!("{view:?}") };
        if let PlatformStatus::Ready { shortage, .. } = &mut short {
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
                RelayState::Up(short),
                "the machine has 1.5 GiB free on the disk of the workspaces, less than the reserve of 2 GiB ([platform] min_free_disk); queued jobs start when there is more: delete what is not needed, or lower the setting",
            ),
            (RelayState::Up(PlatformStatus::Stopped), "the platform is stopped: `relay up` starts it"),
            (RelayState::Up(failed), "the platform can't be started: docker is not running; retrying"),
        ] {
            view.relay = relay;
            assert_eq!(queue_reason(&view), expected);
            assert_eq!(queue_reason_of(&waiting, &view), expected, "the platform comes first");
        }
    }
}
