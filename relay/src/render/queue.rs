//! Reason why a job is queued.

use common::duration;
use common::ids::JobId;
use common::text;

use super::{Relay, View};
use crate::plural;
use crate::registry::lease::PlatformStatus;

/// Maximum length of the reason, in bytes: two lines of a terminal.
const MAX_REASON: usize = 300;

/// Returns the reason why a job is queued, in one line.
pub fn reason(view: &View) -> String {
    behind(view, view.ahead)
}

/// Returns the reason why one of several jobs is queued.
pub fn reason_of(job: &JobId, view: &View) -> String {
    behind(view, view.queue.iter().position(|queued| queued == job).unwrap_or(view.ahead))
}

fn behind(view: &View, ahead: usize) -> String {
    match &view.relay {
        Relay::Down => "no relay is running: `relay up` starts it".to_owned(),
        Relay::Silent { pid, for_ms } => silent(*pid, *for_ms),
        Relay::Up(PlatformStatus::Starting { detail }) => {
            format!("the platform is starting: {}", text::one_line(detail, MAX_REASON))
        }
        Relay::Up(PlatformStatus::Failed { detail }) => {
            format!("the platform can't be started: {}; retrying", text::one_line(detail, MAX_REASON))
        }
        Relay::Up(PlatformStatus::Stopped) => "the platform is stopped: `relay up` starts it".to_owned(),
        Relay::Up(PlatformStatus::Ready { shortage: Some(shortage), .. }) => {
            format!("{}; {}", shortage.describe(), shortage.advice())
        }
        Relay::Up(PlatformStatus::Ready { max_jobs, .. }) => {
            let place = match ahead {
                0 => "next in line".to_owned(),
                ahead => plural::count(ahead as u64, "job ahead", "jobs ahead"),
            };
            format!("{place} ({} of {max_jobs} slots busy)", view.busy)
        }
    }
}

/// Message for a relay that holds the registry but does not report.
pub fn silent(pid: u32, for_ms: u64) -> String {
    let silence = duration::short(for_ms);
    format!(
        "the relay (process {pid}) has been silent for {silence}; if that lasts, end it and run `relay up`"
    )
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::min_free::{Resource, Shortage};

    #[test]
    fn every_reason_says_what_is_the_matter() {
        let mut view = samples::view(0);
        view.ahead = 2;
        assert_eq!(reason(&view), "2 jobs ahead (4 of 4 slots busy)");
        view.ahead = 1;
        assert_eq!(reason(&view), "1 job ahead (4 of 4 slots busy)");
        let failed = PlatformStatus::Failed { detail: "docker is not running\nstart it".into() };
        let Relay::Up(mut short) = view.relay.clone() else { panic!("{view:?}") };
        if let PlatformStatus::Ready { shortage, .. } = &mut short {
            let (available, minimum) = (3 << 29, 1 << 31);
            *shortage = Some(Shortage { resource: Resource::Workspaces, available, minimum });
        }
        for (relay, expected) in [
            (Relay::Down, "no relay is running: `relay up` starts it"),
            (
                Relay::Silent { pid: 7, for_ms: 20_000 },
                "the relay (process 7) has been silent for 20.0s; if that lasts, end it and run `relay up`",
            ),
            (
                Relay::Up(short),
                "the machine has 1.5 GiB free on the disk of the workspaces, less than the reserve of 2 GiB ([platform] min_free_disk); queued jobs start when there is more: delete what is not needed, or lower the setting",
            ),
            (Relay::Up(PlatformStatus::Stopped), "the platform is stopped: `relay up` starts it"),
            (Relay::Up(failed), "the platform can't be started: docker is not running; retrying"),
        ] {
            view.relay = relay;
            assert_eq!(reason(&view), expected);
        }
    }
}
