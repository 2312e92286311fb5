//! A relay that does not run for a while.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::{Link, State};
use relay_tests::harness::figures::{figure, ms, times};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until_by};
use rustix::process::{Pid, Signal, kill_process};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn agent(site: &Site) -> u32 {
    fs::read_to_string(site.agent().join("agent.lock")).unwrap().trim().parse().unwrap()
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Lets time pass, which is itself under test; returns the peak memory of a process during it.
fn watch(pid: u32, time: Duration) -> u64 {
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < time {
        most = most.max(resident_kib(pid));
        thread::park_timeout(Duration::from_millis(100));
    }
    most
}

#[test]
fn n10_a_relay_that_was_stopped_loses_nothing_and_says_so() {
    let frozen = Duration::from_secs(times(20, 60));
    let site = Site::new(Engine::Local);
    // A line every 5 ms: some kilobytes a second.
    let line = "i=0; while ! test -e stop; do i=$((i+1)); echo \"line $i of what is printed meanwhile\"; sleep 0.005; done";
    let job = site.launch_running(line, &[]);
    let (relay, agent) = (site.daemon_pid(), agent(&site));
    let before = resident_kib(agent);
    signal(relay, Signal::STOP);
    let most = watch(agent, frozen);
    signal(relay, Signal::CONT);
    let begun = Instant::now();
    let told = |body: &EventBody| matches!(body, EventBody::Warning { message } if message.contains("did not run for"));
    let deadline = begun + Duration::from_secs(30);
    until_by(deadline, "the freeze is told", || {
        site.events(&job).iter().any(|line| line.event.as_ref().is_some_and(|e| told(&e.body))).then_some(())
    });
    until_by(deadline, "the link is whole", || {
        (site.record(&job).link == Some(Link::Connected)).then_some(())
    });
    let healed = begun.elapsed();
    site.write("workspace-projects/demo/stop", "");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    let log = site.log(&job);
    let lines: Vec<&str> = log.lines().collect();
    for (number, line) in (1..).zip(&lines) {
        assert_eq!(*line, format!("line {number} of what is printed meanwhile"));
    }
    let warnings =
        site.events(&job).iter().filter(|l| l.event.as_ref().is_some_and(|e| told(&e.body))).count();
    figure(&format!(
        "N10: relay stopped for {} s: {} lines, lost 0, doubled 0; whole again after {}; agent {} KiB before, at most {most}; \
         {warnings} warning",
        frozen.as_secs(),
        lines.len(),
        ms(healed),
        before,
    ));
    assert_eq!(warnings, 1);
    assert!(lines.len() > 100 && most < 24 * 1024, "{} lines, {most} KiB", lines.len());
}
