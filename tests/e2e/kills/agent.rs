//! The agent is killed while its workers report many messages; it starts again with the same spool.

use std::fs;
use std::time::{Duration, Instant};

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, until};

use super::programs::{Place, Program};
use super::talker::{self, JOBS, Tally};
use super::{instant, logged, pass};

const LIFE: Duration = Duration::from_millis(300);
const REACH: Duration = Duration::from_secs(3);
/// System calls that the agent makes between two states of its disk.
const CALLS: [&str; 6] = ["pwrite64", "write", "fdatasync", "unlink", "openat", "sendto"];

/// Creates a site whose agent is configured but not running, and whose relay runs.
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

/// Highest message in the files of a spool: searched as text, so that no code of the product is involved.
pub(super) fn spooled(site: &Site, job: &str) -> u64 {
    let stem = format!("{}.1", job.replace('#', "."));
    let root = site.agent();
    let spools = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path().join(&stem));
    spools
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .map(|file| highest(&file.path()))
        .max()
        .unwrap_or(0)
}

fn highest(file: &std::path::Path) -> u64 {
    // `output` holds the messages in another form; a file may have been removed again.
    if file.file_name().is_some_and(|name| name == "output") {
        return 0;
    }
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let numbers = text.split("message ").skip(1);
    numbers.filter_map(|part| part.split_once('.')?.0.parse().ok()).max().unwrap_or(0)
}

/// Runs one agent process, kills it, and checks what becomes of its jobs.
fn round(site: &Site, round: u32, place: Option<Place>, tally: &mut Tally) -> bool {
    let workspaces: Vec<String> = (1..=JOBS).map(|n| format!("r{round}w{n}")).collect();
    let mut agent = Program::agent(site, place);
    let jobs: Vec<String> = workspaces.iter().map(|workspace| talker::launch(site, workspace)).collect();
    if place.is_none() {
        let before = logged(site, &jobs);
        until("the jobs are told of", || (logged(site, &jobs) > before + 4096).then_some(()));
        pass(instant(round, LIFE));
    }
    let deadline = Instant::now() + REACH;
    while place.is_some() && !agent.has_ended() && Instant::now() < deadline {
        pass(Duration::from_millis(5));
    }
    let reached = place.is_none() || agent.has_ended();
    agent.kill();
    let held: Vec<u64> = jobs.iter().map(|job| spooled(site, job)).collect();
    for workspace in &workspaces {
        talker::stop(site, workspace);
    }
    let mut next = Program::agent(site, None);
    for (job, held) in jobs.iter().zip(held) {
        let record = site.ended(job);
        let lost = outcome(&record) == (State::Failed, Some(FailureKind::AgentLost));
        // A job that had not been accepted when the agent died is run by the next agent process.
        assert!(lost || record.state == State::Completed, "{record:#?}");
        tally.add(site, job, held);
    }
    next.kill();
    reached
}

#[test]
fn n02_an_agent_killed_at_any_instant_loses_doubles_and_skips_nothing_spooled() {
    let (site, _relay) = site();
    let (kills, mut tally) = (times(40, 1_500), Tally::default());
    for n in 0..kills {
        round(&site, n, None, &mut tally);
    }
    figure(&format!("N02: agent killed {kills} times at any instant: {}", tally.text()));
    assert!(tally.is_right(), "{tally:?}");
}

#[test]
fn n02_an_agent_killed_at_any_system_call_loses_doubles_and_skips_nothing_spooled() {
    let (site, _relay) = site();
    let (rounds, mut kills, mut tally) = (times(3, 150), 0, Tally::default());
    for n in 0..rounds {
        for (m, call) in (0..).zip(CALLS) {
            let place = Place { call, nth: 1 + n * n * 5 };
            kills += u32::from(round(&site, 1_000 + n * 10 + m, Some(place), &mut tally));
        }
    }
    figure(&format!("N02: agent killed {kills} times at a system call of its own: {}", tally.text()));
    assert!(kills > 0 && tally.is_right(), "{tally:?}");
}
