//! Hundreds of simulated agents on one relay.

use std::fs;
use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::{Engine, PATIENCE, Site, processes};
use relay_tests::simulated_agent::{Crowd, Endpoint, block_on, load};
use tokio::net::TcpStream;

/// Waits until the relay that follows the process `killed` accepts connections; returns the time.
async fn wait_until_serving(site: &Site, killed: u32) -> Instant {
    let endpoint = Endpoint::of_site(site);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no relay takes connections:\n{}", site.daemon_log());
        if site.daemon_pid() != killed && TcpStream::connect(endpoint.address()).await.is_ok() {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn n09_two_hundred_agents_come_back_when_their_relay_is_killed() {
    const AGENTS: usize = 200;
    let site = Site::up(Engine::Local);
    block_on(async {
        let mut crowd = Crowd::start(&Endpoint::of_site(&site), AGENTS);
        load::reports(&mut crowd, AGENTS, load::welcomed_at).await;
        let mut all = Vec::new();
        for _ in 0..times(2, 20) {
            let killed = site.daemon_pid();
            processes::kill(killed);
            let (serving, ()) = tokio::join!(wait_until_serving(&site, killed), load::run(&site, &["up"]));
            let welcomed = load::reports(&mut crowd, AGENTS, load::welcomed_at).await;
            all.extend(welcomed.into_iter().map(|at| at.saturating_duration_since(serving)));
        }
        let (half, most) = (percentile(all.clone(), 50), percentile(all.clone(), 99));
        figure(&format!(
            "relay of {AGENTS} agents killed {} times (fault N09): agents back after it serves again: p50 {}, p99 {}",
            all.len() / AGENTS,
            ms(half),
            ms(most)
        ));
        // An agent pauses for at most 5 s between its tries.
        assert!(most <= Duration::from_secs(30), "{most:?}");
    });
}

/// Returns the median duration of several runs of `relay status`, from spawn to exit.
async fn status_duration(site: &Site) -> Duration {
    let mut samples = Vec::new();
    for _ in 0..21 {
        let started = Instant::now();
        load::run(site, &["status", "--json", "--latest"]).await;
        samples.push(started.elapsed());
    }
    percentile(samples, 50)
}

/// Returns a field of a process's `status` file in `/proc`, in MiB.
fn memory_mib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn hundreds_of_agents_with_a_job_each_need_little_memory_and_get_their_acks() {
    let (agents, max_mib, seconds) = times((250, 80, 5), (1000, 160, 120));
    let site = Site::new(Engine::Local);
    let first = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&first).state, State::Completed);
    block_on(async {
        let alone = status_duration(&site).await;
        let mut crowd = load::start_crowd(&site, agents).await;
        let acks = load::replace_jobs(&site, &mut crowd, seconds).await;
        let crowded = status_duration(&site).await;
        let pid = site.daemon_pid();
        let (now, peak) = (memory_mib(pid, "VmRSS:"), memory_mib(pid, "VmHWM:"));
        let p99 = percentile(acks.clone(), 99);
        figure(&format!(
            "crowd: {agents} agents, {} jobs ended in {seconds} s: relay {now} MiB (at most {peak}), ack p50 {}, p99 {}; \
             status {} beside {} with none: {:.2} ×",
            acks.len(),
            ms(percentile(acks, 50)),
            ms(p99),
            ms(crowded),
            ms(alone),
            crowded.as_secs_f64() / alone.as_secs_f64(),
        ));
        // An agent that gets nothing for 14 s gives its connection up.
        assert!(peak < max_mib && p99 < Duration::from_secs(12), "{peak} MiB, {p99:?}");
        assert!(crowded < Duration::from_secs(10), "{crowded:?} beside {alone:?}");
    });
}
