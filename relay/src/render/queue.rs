//! Reason why a job is queued.

use common::duration;
use common::ids::JobId;
use common::text;

use super::{Relay, View};
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
            format!(
                "the platform is starting: {}; the job starts by itself",
                text::one_line(detail, MAX_REASON)
            )
        }
        Relay::Up(PlatformStatus::Failed { detail }) => {
            format!(
                "the platform can't be started: {}; it is tried again",
                text::one_line(detail, MAX_REASON)
            )
        }
        Relay::Up(PlatformStatus::Stopped) => "the platform is stopped: `relay up` starts it".to_owned(),
        Relay::Up(PlatformStatus::Ready { max_jobs, .. }) => match ahead {
            0 => format!("place 1, the next to start by itself; the platform runs {max_jobs} at once"),
            1 => "place 2, 1 job is ahead of it; it starts by itself".to_owned(),
            ahead => format!("place {}, {ahead} jobs are ahead of it; it starts by itself", ahead + 1),
        },
    }
}

/// Message for a relay that holds the registry but does not report.
pub fn silent(pid: u32, for_ms: u64) -> String {
    let silence = duration::short(for_ms);
    format!(
        "the relay (process {pid}) has not been heard for {silence}; if that lasts, end it and run `relay up`"
    )
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_reason_says_what_is_the_matter() {
        let mut view = samples::view(0);
        view.ahead = 2;
        assert_eq!(reason(&view), "place 3, 2 jobs are ahead of it; it starts by itself");
        view.ahead = 1;
        assert_eq!(reason(&view), "place 2, 1 job is ahead of it; it starts by itself");
        let failed = PlatformStatus::Failed { detail: "docker is not running\nstart it".into() };
        for (relay, expected) in [
            (Relay::Down, "no relay is running: `relay up` starts it"),
            (
                Relay::Silent { pid: 7, for_ms: 20_000 },
                "the relay (process 7) has not been heard for 20.0s; if that lasts, end it and run `relay up`",
            ),
            (Relay::Up(PlatformStatus::Stopped), "the platform is stopped: `relay up` starts it"),
            (Relay::Up(failed), "the platform can't be started: docker is not running; it is tried again"),
        ] {
            view.relay = relay;
            assert_eq!(reason(&view), expected);
        }
    }
}
