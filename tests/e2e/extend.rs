//! Extensions: each request extends a limit exactly once.

use std::fs;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::job::JobSpec;
use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until};

/// Returns the extended limits in a job's log: number of the step (none for the job), and new limit in milliseconds.
fn extensions(site: &Site, job: &str) -> Vec<(Option<u32>, u64)> {
    let events = site.events(job).into_iter().filter_map(|line| line.event);
    let moved = events.filter_map(|event| match event.body {
        EventBody::Extended { n, limit_ms } => Some((n, limit_ms)),
        _ => None,
    });
    moved.collect()
}

/// Returns the time limit in a job's spec, in milliseconds.
fn job_limit_ms(site: &Site, job: &str) -> u64 {
    let spec = fs::read(site.registry().join(format!("{}.spec", job.replace('#', ".")))).unwrap();
    serde_json::from_slice::<JobSpec>(&spec).unwrap().limits.job_ms
}

/// Creates a project with one slot, one running job and one queued job.
fn site_with_queued_job() -> (Site, String, String) {
    let site = Site::new(Engine::Local);
    site.configure("max_jobs = 1\n[codex]\nsandbox = \"off\"\n");
    let first = site.launch_running("sleep 1000", &[]);
    let second = site.launch_shell("true", &["--timeout", "1m"]);
    until("the relay has received the second job", || {
        let log = site.registry().join("demo.2.events.jsonl");
        log.exists().then_some(())
    });
    (site, first, second)
}

fn wait_until_no_requests(site: &Site) {
    until("every request is handled", || {
        let left = fs::read_dir(site.registry().join("requests")).unwrap().count();
        (left == 0).then_some(())
    });
}

#[test]
fn a_limit_that_is_extended_while_a_job_is_queued_applies_when_it_starts() {
    let (site, first, second) = site_with_queued_job();
    site.relay(&["extend", &second, "1h"]);
    site.relay(&["extend", &second, "2h"]);
    wait_until_no_requests(&site);
    let minute = 60_000;
    assert_eq!(extensions(&site, &second), [(None, 61 * minute), (None, 181 * minute)]);
    assert_eq!(job_limit_ms(&site, &second), 181 * minute);
    let stderr = site.refused(2, &["extend", "--step", &second, "1h"]);
    assert!(stderr.contains("no step"), "{stderr}");
    site.relay(&["cancel", "--grace", "1s", &first]);
    assert_eq!(outcome(&site.ended(&second)), (State::Completed, None));
}

#[test]
fn the_next_relay_carries_out_once_what_was_requested_while_none_was_running() {
    let (site, first, second) = site_with_queued_job();
    processes::kill(site.daemon_pid());
    until("the relay is gone", || {
        let output = site.run(&["extend", &second, "1h"]);
        let gone = output.status.code() == Some(5);
        // Before that the dying relay may have received the request.
        gone.then_some(())
    });
    let asked = fs::read_dir(site.registry().join("requests")).unwrap().flatten();
    let asked = asked
        .filter(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("extend")))
        .count();
    assert_eq!(extensions(&site, &second), []);
    for _ in 0..2 {
        site.relay(&["up"]);
        wait_until_no_requests(&site);
        let hours = 3_600_000 * asked as u64;
        assert_eq!((extensions(&site, &second).len(), job_limit_ms(&site, &second)), (asked, 60_000 + hours));
        site.relay(&["status"]);
    }
    site.relay(&["cancel", "--grace", "1s", &first]);
    site.ended(&second);
}

#[test]
fn an_extension_of_a_job_that_has_ended_is_refused() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("true", &[]);
    site.ended(&job);
    let stderr = site.refused(2, &["extend", &job, "1h"]);
    assert!(stderr.contains("has ended (completed)") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(site.run(&["extend", &job, "0s"]).status.code(), Some(2));
    assert_eq!(site.run(&["extend", "nope", "1h"]).status.code(), Some(3));
}

#[test]
fn a_job_may_run_longer_than_its_limit_if_the_limit_is_extended_in_time() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e go; do sleep 0.02; done", &["--timeout", "6s"]);
    site.record_when(&job, "has a step", |record| record.step.is_some());
    let running = Instant::now();
    let stdout = site.relay(&["extend", &job, "1h"]);
    assert!(stdout.contains(&format!("{job} may now take 1h6s")), "{stdout}");
    let stdout = site.relay(&["extend", "--step", "--json", &job, "1h"]);
    let step: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    until("the first limit has passed", || (running.elapsed() > Duration::from_secs(6)).then_some(()));
    site.write("workspace-projects/demo/go", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None));
    let n = record.steps.last().map(|step| step.n);
    assert_eq!(extensions(&site, &job), [(None, 3_606_000), (n, step["limit_ms"].as_u64().unwrap())]);
    wait_until_no_requests(&site);
}

#[test]
fn each_request_extends_a_limit_once_although_the_relay_is_killed_after_it() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e go; do sleep 0.02; done", &[]);
    site.record_when(&job, "has a step", |record| record.step.is_some());
    for _ in 0..5 {
        site.run(&["extend", &job, "1h"]);
        processes::kill(site.daemon_pid());
        until("another relay is up", || site.run(&["up"]).status.success().then_some(()));
    }
    wait_until_no_requests(&site);
    let hours: Vec<_> = (5..=9).map(|hours| (None, hours * 3_600_000)).collect();
    until("all five extensions are in the log", || (extensions(&site, &job) == hours).then_some(()));
    site.write("workspace-projects/demo/go", "");
    site.ended(&job);
}
