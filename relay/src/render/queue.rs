//! Why a queued job waits.

use common::text;

use super::{Relay, View};
use crate::registry::lease::PlatformStatus;

/// Longest reason, in bytes: two lines of a terminal.
const REASON: usize = 300;

/// Why a queued job waits, in one line.
pub fn reason(view: &View) -> String {
    match &view.relay {
        Relay::Down => "no relay is running: `relay up` starts it".to_owned(),
        Relay::Up(PlatformStatus::Starting { detail }) => {
            format!("the platform is starting: {}", text::one_line(detail, REASON))
        }
        Relay::Up(PlatformStatus::Failed { detail }) => {
            format!("the platform can't be started: {}", text::one_line(detail, REASON))
        }
        Relay::Up(PlatformStatus::Stopped) => "the platform is stopped: `relay up` starts it".to_owned(),
        Relay::Up(PlatformStatus::Ready { max_jobs, .. }) => match view.ahead {
            0 => format!("it is the next; the platform runs {max_jobs} at once"),
            1 => "1 job is ahead of it".to_owned(),
            ahead => format!("{ahead} jobs are ahead of it"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_reason_says_what_is_the_matter() {
        let mut view = samples::view(0);
        view.ahead = 2;
        assert_eq!(reason(&view), "2 jobs are ahead of it");
        view.ahead = 1;
        assert_eq!(reason(&view), "1 job is ahead of it");
        let failed = PlatformStatus::Failed { detail: "docker is not running\nstart it".into() };
        for (relay, expected) in [
            (Relay::Down, "no relay is running: `relay up` starts it"),
            (Relay::Up(PlatformStatus::Stopped), "the platform is stopped: `relay up` starts it"),
            (Relay::Up(failed), "the platform can't be started: docker is not running"),
        ] {
            view.relay = relay;
            assert_eq!(reason(&view), expected);
        }
    }
}
