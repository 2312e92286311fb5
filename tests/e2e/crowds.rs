//! Crowds of agents.

use std::fs;
use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::{Engine, Site};
use relay_tests::simulated_agent::crowd::Report;
use relay_tests::simulated_agent::{Crowd, Door, block_on};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{interval, timeout};

/// For a crowd to be where a test wants it.
const PATIENCE: Duration = Duration::from_secs(120);

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Ends a site's own agent. It is not started anew as long as somebody else is there.
fn without_own_agent(site: &Site) {
    let lock = fs::read_to_string(site.registry().join("agent/agent.lock")).unwrap();
    signal(lock.trim().parse().unwrap(), Signal::KILL);
}

/// The next so many reports of one kind.
async fn reports<T>(crowd: &mut Crowd, count: usize, wanted: impl Fn(&Report) -> Option<T>) -> Vec<T> {
    let mut found = Vec::with_capacity(count);
    let collected = timeout(PATIENCE, async {
        while found.len() < count {
            found.extend(wanted(&crowd.report().await));
        }
    });
    let in_time = collected.await.is_ok();
    assert!(in_time, "{} of {count} reports", found.len());
    found
}

fn welcomed(report: &Report) -> Option<Duration> {
    if let Report::Welcomed(after) = report { Some(*after) } else { None }
}

#[test]
fn n09_two_hundred_agents_are_back_within_five_seconds_when_their_relay_is_killed() {
    const AGENTS: usize = 200;
    let site = Site::new(Engine::Local);
    site.relay(&["up"]);
    block_on(async {
        let mut crowd = Crowd::start(&Door::of(&site), AGENTS);
        reports(&mut crowd, AGENTS, welcomed).await;
        let mut all = Vec::new();
        for _ in 0..times(2, 20) {
            signal(site.daemon_pid(), Signal::KILL);
            let up = tokio::process::Command::from(site.command(&["up"])).output().await.unwrap();
            assert!(up.status.success(), "{}", site.daemon_log());
            all.extend(reports(&mut crowd, AGENTS, welcomed).await);
        }
        let (half, most) = (percentile(all.clone(), 50), percentile(all.clone(), 99));
        figure(&format!(
            "N09: {AGENTS} agents back after {} kills of the relay: p50 {}, p99 {}",
            all.len() / AGENTS,
            ms(half),
            ms(most)
        ));
        assert!(most <= Duration::from_secs(5), "{most:?}");
        // Their tries were spread: not all at once.
        assert!(percentile(all, 90) > half + Duration::from_millis(20));
    });
}

/// What a command takes from spawn to exit, the median of some.
async fn status(site: &Site) -> Duration {
    let mut samples = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        let command = site.command(&["status", "--json", "--latest"]);
        let output = tokio::process::Command::from(command).output().await.unwrap();
        samples.push(begun.elapsed());
        assert!(output.status.success());
    }
    percentile(samples, 50)
}

async fn launch(site: &Site) {
    let workspace = site.workspace();
    let command =
        site.command(&["launch", "-q", "--runner", "shell", "-w", &workspace.to_string_lossy(), "unused"]);
    let output = tokio::process::Command::from(command).output().await.unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// A field of a process's status in KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Ten jobs end each second, and are replaced; gives how long each end waited to be acknowledged.
async fn turnover(site: &Site, crowd: &mut Crowd, seconds: usize) -> Vec<Duration> {
    const A_SECOND: usize = 10;
    let acked = |report: &Report| if let Report::Acked(after) = report { Some(*after) } else { None };
    let mut acks = Vec::new();
    let mut beats = interval(Duration::from_millis(100));
    for number in 0..A_SECOND * seconds {
        beats.tick().await;
        crowd.end_one(number);
        launch(site).await;
        acks.extend(reports(crowd, 1, acked).await);
    }
    acks
}

#[test]
fn a_thousand_agents_with_a_job_each_cost_little_and_are_answered_at_once() {
    const AGENTS: usize = 1000;
    let seconds = times(20, 120);
    let site = Site::new(Engine::Local);
    let first = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&first).state, State::Completed);
    block_on(async {
        let alone = status(&site).await;
        let mut crowd = Crowd::start(&Door::of(&site), AGENTS);
        reports(&mut crowd, AGENTS, welcomed).await;
        without_own_agent(&site);
        for _ in 0..AGENTS {
            launch(&site).await;
        }
        let running = |report: &Report| matches!(report, Report::Running(_)).then_some(());
        reports(&mut crowd, AGENTS, running).await;

        let acks = turnover(&site, &mut crowd, seconds).await;
        let crowded = status(&site).await;
        let pid = site.daemon_pid();
        let (now, peak) = (memory(pid, "VmRSS:"), memory(pid, "VmHWM:"));
        let p99 = percentile(acks.clone(), 99);
        figure(&format!(
            "crowd: {AGENTS} agents, {} jobs ended in {seconds} s: relay {} MiB (at most {}), ack p50 {}, p99 {}; \
             status {} beside {} with none: {:.2} ×",
            acks.len(),
            now / 1024,
            peak / 1024,
            ms(percentile(acks, 50)),
            ms(p99),
            ms(crowded),
            ms(alone),
            crowded.as_secs_f64() / alone.as_secs_f64(),
        ));
        // Generous: the figure is what counts, and this machine may do other things beside it.
        assert!(peak < 160 * 1024 && p99 < Duration::from_secs(2), "{peak} KiB, {p99:?}");
        assert!(crowded < alone * 5, "{crowded:?} beside {alone:?}");
    });
}
