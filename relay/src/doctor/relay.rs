//! Checks of the daemon and of the queued jobs.

use common::record::State as JobState;
use jiff::Timestamp;

use super::context::CheckContext;
use super::finding::Finding;
use crate::registry::lease::{Lease, PlatformStatus};
use crate::registry::read;
use crate::{plural, times};

const RELAY_CHECK: &str = "relay";
const QUEUE_CHECK: &str = "queue";
/// Age of the daemon's last heartbeat above which the check warns, in milliseconds: six intervals, because a busy or
/// sleeping machine delays some heartbeats.
const MAX_HEARTBEAT_AGE_MS: u64 = 30_000;

/// Checks that the daemon runs, and that queued jobs can start.
pub(super) fn check_relay(context: &CheckContext) -> Vec<Finding> {
    let daemon =
        assess_daemon(context.lease.as_ref(), context.is_relay_running, context.now, &context.up_command());
    let queue = match read::read_records(&context.registry) {
        Ok(records) => {
            let waiting = records.iter().filter(|stored| stored.record.state == JobState::Queued).count();
            assess_queue(waiting, context.platform(), &context.up_command())
        }
        // The check of the registry gives the advice for this error.
        Err(e) => Finding::skipped(QUEUE_CHECK, format!("the registry can't be read: {e}")),
    };
    vec![daemon, queue]
}

fn assess_daemon(lease: Option<&Lease>, is_running: bool, now: Timestamp, up_command: &str) -> Finding {
    let Some(lease) = lease else {
        return if is_running {
            Finding::warn(
                RELAY_CHECK,
                "it holds the registry, but has not reported yet",
                "try again in a second",
            )
        } else {
            Finding::warn(RELAY_CHECK, "none has run here yet", format!("{up_command} starts it"))
        };
    };
    let (pid, last_heard) = (lease.pid, times::format_ago(lease.heartbeat_at, now));
    if !is_running {
        return match lease.platform {
            PlatformStatus::Stopped => {
                Finding::warn(RELAY_CHECK, "it is down", format!("{up_command} starts it"))
            }
            _ => Finding::fail(
                RELAY_CHECK,
                format!("process {pid} has died, last heard of {last_heard}"),
                format!(
                    "{up_command} starts a new one, which continues the jobs; see relay.log in the registry"
                ),
            ),
        };
    }
    if times::millis_between(lease.heartbeat_at, now) > MAX_HEARTBEAT_AGE_MS {
        return Finding::fail(
            RELAY_CHECK,
            format!("process {pid} holds the registry, but was last heard of {last_heard}"),
            format!(
                "`kill -CONT {pid}` if it is stopped; else `kill -9 {pid}`, then {up_command}: workers go on meanwhile"
            ),
        );
    }
    match &lease.platform {
        PlatformStatus::Ready { max_jobs, .. } => Finding::ok(
            RELAY_CHECK,
            format!("process {pid}, engine {}, {}", lease.engine, plural::format_capacity(*max_jobs)),
        ),
        PlatformStatus::Starting { detail } => Finding::warn(
            RELAY_CHECK,
            format!("the platform is starting: {detail}"),
            format!("{up_command} waits until it is ready, or says why it is not"),
        ),
        PlatformStatus::Failed { detail } => Finding::fail(
            RELAY_CHECK,
            format!("the platform can't be started: {detail}"),
            format!("fix that, then run {up_command}"),
        ),
        PlatformStatus::Stopped => {
            Finding::warn(RELAY_CHECK, "its platform is stopped", format!("{up_command} starts it"))
        }
    }
}

fn assess_queue(waiting: usize, platform: Option<&PlatformStatus>, up_command: &str) -> Finding {
    let jobs = match waiting {
        0 => return Finding::ok(QUEUE_CHECK, "no job is waiting"),
        1 => "1 job is waiting".to_owned(),
        count => format!("{count} jobs are waiting"),
    };
    match platform {
        None => Finding::fail(
            QUEUE_CHECK,
            format!("{jobs}, and no relay is running"),
            format!("{up_command} starts it"),
        ),
        Some(PlatformStatus::Ready { shortage: Some(_), .. }) => Finding::warn(
            QUEUE_CHECK,
            format!("{jobs} until the machine has more memory or disk space"),
            "apply the fix of the check 'machine'",
        ),
        Some(PlatformStatus::Ready { .. }) => Finding::ok(QUEUE_CHECK, format!("{jobs} for a slot")),
        Some(_) => Finding::warn(
            QUEUE_CHECK,
            format!("{jobs} for the platform"),
            "apply the fixes of the other checks",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn lease(platform: PlatformStatus) -> Lease {
        let golden = include_str!("../../../tests/golden/v1/ready.lease.json");
        let mut lease: Lease = serde_json::from_str(golden).unwrap();
        (lease.pid, lease.platform) = (7, platform);
        lease
    }

    fn ready() -> PlatformStatus {
        lease_of_golden().platform
    }

    fn lease_of_golden() -> Lease {
        serde_json::from_str(include_str!("../../../tests/golden/v1/ready.lease.json")).unwrap()
    }

    #[test]
    fn a_daemon_runs_has_died_hangs_or_never_ran() {
        let failed = || PlatformStatus::Failed { detail: "no image".into() };
        let starting = PlatformStatus::Starting { detail: "the agent".into() };
        for (platform, is_running, seconds_later, state, detail_start) in [
            (Some(ready()), true, 1, State::Ok, "process 7, engine"),
            (
                Some(ready()),
                true,
                31,
                State::Fail,
                "process 7 holds the registry, but was last heard of 31s ago",
            ),
            (Some(ready()), false, 120, State::Fail, "process 7 has died, last heard of 2m"),
            (Some(PlatformStatus::Stopped), false, 1, State::Warn, "it is down"),
            (Some(PlatformStatus::Stopped), true, 1, State::Warn, "its platform is stopped"),
            (Some(failed()), true, 1, State::Fail, "the platform can't be started: no image"),
            (Some(starting), true, 1, State::Warn, "the platform is starting: the agent"),
            (None, false, 1, State::Warn, "none has run here yet"),
            (None, true, 1, State::Warn, "it holds the registry, but has not reported"),
        ] {
            let lease = platform.map(lease);
            let heartbeat_at = lease_of_golden().heartbeat_at;
            let now = heartbeat_at + jiff::SignedDuration::from_secs(seconds_later);
            let finding = assess_daemon(lease.as_ref(), is_running, now, "`relay up`");
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.detail.starts_with(detail_start), "{finding:?}");
            assert_eq!(finding.fix.is_some(), state != State::Ok);
        }
    }

    #[test]
    fn queued_jobs_fail_the_check_while_no_relay_is_running() {
        let starting = PlatformStatus::Starting { detail: String::new() };
        let golden = include_str!("../../../tests/golden/v1/ready-with-shortage.lease.json");
        let with_shortage = serde_json::from_str::<Lease>(golden).unwrap().platform;
        for (waiting, platform, state, detail_start) in [
            (0, None, State::Ok, "no job is waiting"),
            (1, None, State::Fail, "1 job is waiting, and no relay is running"),
            (2, Some(&starting), State::Warn, "2 jobs are waiting for the platform"),
            (3, Some(&ready()), State::Ok, "3 jobs are waiting for a slot"),
            (
                1,
                Some(&with_shortage),
                State::Warn,
                "1 job is waiting until the machine has more memory or disk space",
            ),
        ] {
            let finding = assess_queue(waiting, platform, "`relay up`");
            assert_eq!((finding.state, &finding.detail[..]), (state, detail_start));
        }
    }
}
