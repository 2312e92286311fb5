//! Tests that kill the agent while its workers report many messages, and start it again with the same spool.

use std::fs;
use std::time::{Duration, Instant};

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, until};

use super::programs::{KillPoint, Program};
use super::talker::{self, JOBS, Tally};
use super::{let_time_pass, log_length, spread_instant};

/// Maximum lifetime of an agent once events of it are in the logs.
const MAX_LIFETIME: Duration = Duration::from_millis(300);
/// Maximum time for an agent to reach the system call at which it is killed.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// System calls of the agent that change its disk or send something.
const CALLS: [&str; 6] = ["pwrite64", "write", "fdatasync", "unlink", "openat", "sendto"];

/// Creates a site whose relay is running, as a child of the test, and whose agent is configured but not running.
pub(super) fn site() -> (Site, Program) {
    let site = talker::site();
    site.relay(&["up"]);
    let relay = i32::try_from(site.daemon_pid()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(relay.unwrap(), rustix::process::Signal::KILL).unwrap();
    kill_agent(&site);
    let relay = Program::relay(&site, None);
    (site, relay)
}

/// Kills the agent that holds the site's state, as `kill -9` does.
pub(super) fn kill_agent(site: &Site) {
    let lock = site.agent().join("agent.lock");
    let pid = fs::read_to_string(lock).ok().and_then(|pid| pid.trim().parse().ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Returns the highest number of a message of a job in the agent's spool, without using code of the product.
pub(super) fn highest_spooled_message(site: &Site, job: &str) -> u64 {
    let stem = format!("{}.1", job.replace('#', "."));
    let root = site.agent();
    let spools = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path().join(&stem));
    spools
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .map(|file| highest_message(&file.path()))
        .max()
        .unwrap_or(0)
}

fn highest_message(file: &std::path::Path) -> u64 {
    // `output` holds the messages in another form.
    if file.file_name().is_some_and(|name| name == "output") {
        return 0;
    }
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let numbers = text.split("message ").skip(1);
    numbers.filter_map(|part| part.split_once('.')?.0.parse().ok()).max().unwrap_or(0)
}

/// Runs an agent process, kills it (at the kill point, if there is one), starts the next one, and checks the jobs of
/// the first. Returns true if the kill point was reached.
fn run_round(site: &Site, round: u32, kill_point: Option<KillPoint>, tally: &mut Tally) -> bool {
    let workspaces: Vec<String> = (1..=JOBS).map(|n| format!("r{round}w{n}")).collect();
    let mut agent = Program::agent(site, kill_point);
    let jobs: Vec<String> = workspaces.iter().map(|workspace| talker::launch(site, workspace)).collect();
    if kill_point.is_none() {
        let before = log_length(site, &jobs);
        until("events of the jobs are in the logs", || {
            (log_length(site, &jobs) > before + 4096).then_some(())
        });
        let_time_pass(spread_instant(round, MAX_LIFETIME));
    }
    let deadline = Instant::now() + CALL_TIMEOUT;
    while kill_point.is_some() && !agent.has_ended() && Instant::now() < deadline {
        let_time_pass(Duration::from_millis(5));
    }
    let reached = kill_point.is_none() || agent.has_ended();
    agent.kill();
    let spooled: Vec<u64> = jobs.iter().map(|job| highest_spooled_message(site, job)).collect();
    for workspace in &workspaces {
        talker::stop(site, workspace);
    }
    let mut next = Program::agent(site, None);
    for (job, spooled) in jobs.iter().zip(spooled) {
        let record = site.ended(job);
        let lost = outcome(&record) == (State::Failed, Some(FailureKind::AgentLost));
        // A job that had not been accepted when the agent died is run by the next agent process.
        assert!(lost || record.state == State::Completed, "{record:#?}");
        tally.add(site, job, spooled);
    }
    next.kill();
    reached
}

#[test]
fn n02_an_agent_killed_at_any_instant_loses_and_duplicates_nothing_spooled() {
    let (site, _relay) = site();
    let (kills, mut tally) = (times(40, 1_500), Tally::default());
    for n in 0..kills {
        run_round(&site, n, None, &mut tally);
    }
    figure(&format!("agent killed {kills} times at any instant (fault N02): {}", tally.text()));
    assert!(tally.is_complete(), "{tally:?}");
}

#[test]
fn n02_an_agent_killed_at_any_system_call_loses_and_duplicates_nothing_spooled() {
    let (site, _relay) = site();
    let (rounds, mut kills, mut tally) = (times(3, 150), 0, Tally::default());
    for n in 0..rounds {
        for (m, call) in (0..).zip(CALLS) {
            let kill_point = KillPoint { call, nth: 1 + n * n * 5 };
            kills += u32::from(run_round(&site, 1_000 + n * 10 + m, Some(kill_point), &mut tally));
        }
    }
    figure(&format!("agent killed {kills} times at a system call of its own (fault N02): {}", tally.text()));
    assert!(kills > 0 && tally.is_complete(), "{tally:?}");
}
