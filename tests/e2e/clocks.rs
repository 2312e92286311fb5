//! Clocks that disagree: between relay and agent, and between a relay and its machine, whose clock was set after the
//! relay started.

use std::fs;

use common::record::State;
use jiff::{SignedDuration, Timestamp};
use relay_tests::harness::{Engine, Site, processes, until};
use serde_json::Value;

/// Creates a site whose relay, and with it the agent, is off the machine's clock by `off`: like a relay that has run
/// since before the clock was set. It has a job whose ages would change if the relay followed the clock.
fn site_beside_its_clock(off: SignedDuration) -> Site {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e over; do sleep 0.05; done", &["-n", "before"]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    processes::kill(site.daemon_pid());
    let path = site.state().join("relay.json");
    let mut memory: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let origin: Timestamp = memory["clock"]["origin"].as_str().unwrap().parse().unwrap();
    memory["clock"]["origin"] = (origin + off).to_string().into();
    fs::write(&path, memory.to_string()).unwrap();
    site.relay(&["up"]);
    until("the agent is back", || {
        let lease: Value =
            serde_json::from_slice(&fs::read(site.registry().join("relay.json")).ok()?).ok()?;
        (lease["platform"]["state"] == "ready").then_some(())
    });
    site
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}

#[test]
fn ages_are_true_and_times_are_the_relay_s_though_a_clock_is_an_hour_off() {
    for hours in [1, -1] {
        let off = SignedDuration::from_hours(hours);
        let site = site_beside_its_clock(off);
        let job = site.launch_shell("echo one; until test -e over; do sleep 0.05; done", &["-n", "probe"]);
        let record = site.record_when(&job, "has a step", |record| record.step.is_some());
        let beside = seconds(Timestamp::now() + off, record.last_event_at);
        assert!(beside.abs() < 60, "{hours} h: events are stamped {beside} s beside the relay's time");
        let began = record.step.as_ref().unwrap().started_at;
        assert!((0..60).contains(&seconds(record.created_at, began)), "{hours} h: {record:?}");

        let status = site.relay(&["status", &job]);
        assert!(status.contains("health     healthy: "), "{hours} h: {status}");
        let headline = status.lines().next().unwrap();
        assert!(headline.contains("running for") && !headline.contains('h'), "{hours} h: {headline}");
        site.write("workspace-projects/demo/over", "");
        let record = site.ended(&job);
        let took = seconds(record.created_at, record.finished_at.unwrap());
        assert!((0..60).contains(&took), "{hours} h: it took {took} s");
        let told = [record.summary.unwrap(), site.relay(&["status", &job]), site.relay(&["notices"])];
        for told in told {
            let after = told.lines().find_map(|line| line.split("completed after ").nth(1)).unwrap_or(&told);
            assert!(!after.split_whitespace().next().unwrap().contains('h'), "{hours} h: {told}");
        }
        let said = fs::read_to_string(site.agent().join("agent.log")).unwrap_or_default();
        let order = if hours > 0 { "1h00m behind the relay's" } else { "1h00m ahead of the relay's" };
        assert_eq!(said.matches(order).count(), 1, "{hours} h: {said}");
    }
}
