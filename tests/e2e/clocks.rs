//! Clocks that differ: between relay and agent, or because the machine's clock was set while relay was running.

use std::fs;

use common::record::State;
use jiff::{SignedDuration, Timestamp};
use relay_tests::harness::{Engine, Site, processes, until};
use serde_json::Value;

/// Maximum difference between two times of one test, in seconds: much less than the hour by which its clocks differ.
const MAX_DIFFERENCE_S: i64 = 600;

/// Creates a site whose relay and agent differ from the machine's clock by `off`, as if the clock was set while the
/// relay was running. The site has a running job, whose ages would change if the relay followed the clock.
fn site_with_clock_off_by(off: SignedDuration) -> Site {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e over; do sleep 0.05; done", &["-n", "before"]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    processes::kill(site.daemon_pid());
    let path = site.state().join("relay.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let origin: Timestamp = state["clock"]["origin"].as_str().unwrap().parse().unwrap();
    state["clock"]["origin"] = (origin + off).to_string().into();
    fs::write(&path, state.to_string()).unwrap();
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
fn ages_are_correct_and_times_are_the_relay_s_when_a_clock_is_an_hour_off() {
    for hours in [1, -1] {
        let off = SignedDuration::from_hours(hours);
        let site = site_with_clock_off_by(off);
        let job = site.launch_shell("echo one; until test -e over; do sleep 0.05; done", &["-n", "probe"]);
        let record = site.record_when(&job, "has a step", |record| record.step.is_some());
        let beside = seconds(Timestamp::now() + off, record.last_event_at);
        assert!(
            beside.abs() < MAX_DIFFERENCE_S,
            "{hours} h: events are stamped {beside} s off the relay's time"
        );
        let began = record.step.as_ref().unwrap().started_at;
        assert!((0..MAX_DIFFERENCE_S).contains(&seconds(record.created_at, began)), "{hours} h: {record:?}");

        let status = site.relay(&["status", &job]);
        assert!(status.contains("health     healthy: "), "{hours} h: {status}");
        let headline = status.lines().next().unwrap();
        assert!(headline.contains("running for") && !headline.contains('h'), "{hours} h: {headline}");
        site.write("workspace-projects/demo/over", "");
        let record = site.ended(&job);
        let took = seconds(record.created_at, record.finished_at.unwrap());
        assert!((0..MAX_DIFFERENCE_S).contains(&took), "{hours} h: it took {took} s");
        let texts = [record.summary.unwrap(), site.relay(&["status", &job]), site.notices_of(&[&job])];
        for text in texts {
            let after = text.lines().find_map(|line| line.split("completed after ").nth(1)).unwrap_or(&text);
            assert!(!after.split_whitespace().next().unwrap().contains('h'), "{hours} h: {text}");
        }
        let text = fs::read_to_string(site.agent().join("agent.log")).unwrap_or_default();
        let order = if hours > 0 { "1h00m behind the relay's" } else { "1h00m ahead of the relay's" };
        assert_eq!(text.matches(order).count(), 1, "{hours} h: {text}");
    }
}
