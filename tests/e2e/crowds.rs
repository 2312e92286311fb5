//! Crowds of agents.

use std::fs;
use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::{Engine, PATIENCE, Site, processes};
use relay_tests::simulated_agent::{Crowd, Door, block_on, load};
use tokio::net::TcpStream;

/// Waits until the relay that follows a killed one accepts connections; returns that time.
async fn serving(site: &Site, killed: u32) -> Instant {
    let door = Door::of(site);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no relay takes connections:\n{}", site.daemon_log());
        if site.daemon_pid() != killed && TcpStream::connect(door.address()).await.is_ok() {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn n09_two_hundred_agents_are_back_within_five_seconds_when_their_relay_is_killed() {
    const AGENTS: usize = 200;
    let site = Site::up(Engine::Local);
    block_on(async {
        let mut crowd = Crowd::start(&Door::of(&site), AGENTS);
        load::reports(&mut crowd, AGENTS, load::welcomed).await;
        let mut all = Vec::new();
        for _ in 0..times(2, 20) {
            let killed = site.daemon_pid();
            processes::kill(killed);
            let (serving, ()) = tokio::join!(serving(&site, killed), load::run(&site, &["up"]));
            let welcomed = load::reports(&mut crowd, AGENTS, load::welcomed).await;
            all.extend(welcomed.into_iter().map(|at| at.saturating_duration_since(serving)));
        }
        let (half, most) = (percentile(all.clone(), 50), percentile(all.clone(), 99));
        figure(&format!(
            "N09: {AGENTS} agents back after {} kills of the relay, from its serving again: p50 {}, p99 {}",
            all.len() / AGENTS,
            ms(half),
            ms(most)
        ));
        assert!(most <= Duration::from_secs(5), "{most:?}");
    });
}

/// Median duration of several runs of a command, from spawn to exit.
async fn status(site: &Site) -> Duration {
    let mut samples = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        load::run(site, &["status", "--json", "--latest"]).await;
        samples.push(begun.elapsed());
    }
    percentile(samples, 50)
}

/// Field of a process's status, in MiB.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn a_thousand_agents_with_a_job_each_cost_little_and_are_answered_at_once() {
    const AGENTS: usize = 1000;
    let seconds = times(10, 120);
    let site = Site::new(Engine::Local);
    let first = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&first).state, State::Completed);
    block_on(async {
        let alone = status(&site).await;
        let mut crowd = load::gather(&site, AGENTS).await;
        let acks = load::turnover(&site, &mut crowd, seconds).await;
        let crowded = status(&site).await;
        let pid = site.daemon_pid();
        let (now, peak) = (memory(pid, "VmRSS:"), memory(pid, "VmHWM:"));
        let p99 = percentile(acks.clone(), 99);
        figure(&format!(
            "crowd: {AGENTS} agents, {} jobs ended in {seconds} s: relay {now} MiB (at most {peak}), ack p50 {}, p99 {}; \
             status {} beside {} with none: {:.2} ×",
            acks.len(),
            ms(percentile(acks, 50)),
            ms(p99),
            ms(crowded),
            ms(alone),
            crowded.as_secs_f64() / alone.as_secs_f64(),
        ));
        // Generous limits: the figure matters, and this machine may do other work at the same time.
        assert!(peak < 160 && p99 < Duration::from_secs(2), "{peak} MiB, {p99:?}");
        assert!(crowded < alone * 5, "{crowded:?} beside {alone:?}");
    });
}
