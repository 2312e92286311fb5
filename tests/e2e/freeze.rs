//! A relay process that is stopped for a while, as in a frozen virtual machine.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::{Link, State};
use relay_tests::harness::figures::{figure, ms, times};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until};
use rustix::process::{Pid, Signal, kill_process};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn agent_pid(site: &Site) -> u32 {
    fs::read_to_string(site.agent().join("agent.lock")).unwrap().trim().parse().unwrap()
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Waits for `time`, for which the relay is stopped; returns the peak memory of a process in that time, in KiB.
fn watch_memory(pid: u32, time: Duration) -> u64 {
    let (started, mut peak) = (Instant::now(), 0);
    while started.elapsed() < time {
        peak = peak.max(resident_kib(pid));
        thread::park_timeout(Duration::from_millis(100));
    }
    peak
}

#[test]
fn n10_a_relay_that_was_stopped_loses_nothing_and_warns_of_the_gap() {
    let frozen = Duration::from_secs(times(20, 60));
    let site = Site::new(Engine::Local);
    // The job prints a line every 5 ms, which is some kilobytes per second.
    let line = "i=0; while ! test -e stop; do i=$((i+1)); echo \"line $i of what is printed meanwhile\"; sleep 0.005; done";
    let job = site.launch_running(line, &[]);
    let (relay, agent) = (site.daemon_pid(), agent_pid(&site));
    let before = resident_kib(agent);
    signal(relay, Signal::STOP);
    let peak = watch_memory(agent, frozen);
    signal(relay, Signal::CONT);
    let started = Instant::now();
    let is_freeze_warning = |body: &EventBody| matches!(body, EventBody::Warning { message } if message.contains("did not run for"));
    until("the freeze is in the log", || {
        site.events(&job)
            .iter()
            .any(|line| line.event.as_ref().is_some_and(|e| is_freeze_warning(&e.body)))
            .then_some(())
    });
    until("the agent is connected again", || (site.record(&job).link == Some(Link::Connected)).then_some(()));
    let healed = started.elapsed();
    site.write("workspace-projects/demo/stop", "");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    let log = site.log(&job);
    let lines: Vec<&str> = log.lines().collect();
    for (number, line) in (1..).zip(&lines) {
        assert_eq!(*line, format!("line {number} of what is printed meanwhile"));
    }
    let warnings = site
        .events(&job)
        .iter()
        .filter(|l| l.event.as_ref().is_some_and(|e| is_freeze_warning(&e.body)))
        .count();
    figure(&format!(
        "relay frozen for {} s (fault N10): {} lines, lost 0, duplicated 0; healed after {}; agent {} KiB before, at most {peak}; \
         {warnings} warning",
        frozen.as_secs(),
        lines.len(),
        ms(healed),
        before,
    ));
    assert_eq!(warnings, 1);
    assert!(lines.len() > 100 && peak < 24 * 1024, "{} lines, {peak} KiB", lines.len());
}
