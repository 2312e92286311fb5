//! `relay notices`: each completion notice is shown once, even if many processes ask at the same time.

use std::collections::BTreeMap;
use std::time::Instant;

use common::ids::JobId;
use common::origin::Origin;
use jiff::SignedDuration;
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::outbox::{self, create_ended_job};
use relay_tests::harness::{Engine, Site};

/// Creates ended jobs that no session launched, each with its completion notice, the oldest first.
fn create_notices(site: &Site, count: u32) -> Vec<JobId> {
    let end = |n: u32| {
        let age = SignedDuration::from_secs(i64::from(10_000 - n));
        create_ended_job(site, &format!("job#{n}"), &Origin::default(), age)
    };
    (1..=count).map(end).collect()
}

/// Returns the jobs that an output of `relay notices` reports, in order.
fn reported_jobs(text: &str) -> Vec<String> {
    let headline = |line: &str| Some(line.strip_prefix("relay: worker ")?.split_once(' ')?.0.to_owned());
    text.lines().filter_map(headline).collect()
}

#[test]
fn notices_are_shown_once_oldest_first_five_at_a_time() {
    let site = Site::new(Engine::Local);
    assert_eq!(site.relay(&["notices"]), "");
    let jobs: Vec<String> = create_notices(&site, 7).iter().map(ToString::to_string).collect();
    for _ in 0..2 {
        let peeked = site.relay(&["notices", "--peek"]);
        assert_eq!(reported_jobs(&peeked), jobs[..5]);
        assert!(peeked.ends_with("\n\n2 more jobs have ended: `relay notices` shows the next\n"), "{peeked}");
    }
    assert_eq!(reported_jobs(&site.relay(&["notices"])), jobs[..5]);
    let rest = site.relay(&["notices", "--json"]);
    let rest: Vec<serde_json::Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rest.iter().map(|record| record["job"].as_str().unwrap()).collect::<Vec<_>>(), jobs[5..]);
    assert_eq!(site.relay(&["notices"]), "");
}

#[test]
fn a_notice_that_could_not_be_printed_is_shown_by_the_next_call() {
    let site = Site::new(Engine::Local);
    let job = &create_notices(&site, 1)[0];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(site.command(&["notices"]).stdout(writer).status().unwrap().success());
    assert!(!outbox::is_shown(&site, job));
    assert_eq!(reported_jobs(&site.relay(&["notices"])), [job.to_string()]);
    assert!(outbox::is_shown(&site, job));
}

#[test]
fn many_simultaneous_callers_get_each_notice_once_in_total() {
    let site = Site::new(Engine::Local);
    let rounds = times(1, 20);
    for _ in 0..rounds {
        let jobs = create_notices(&site, 50);
        // Each caller asks until no notice is left.
        let ask = || {
            let mut texts = Vec::new();
            loop {
                let text = site.relay(&["notices"]);
                if text.is_empty() {
                    return texts;
                }
                texts.extend(reported_jobs(&text));
            }
        };
        let all: Vec<String> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
        });
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for job in all {
            *counts.entry(job).or_default() += 1;
        }
        let expected: BTreeMap<String, usize> = jobs.iter().map(|job| (job.to_string(), 1)).collect();
        assert_eq!(counts, expected);
        std::fs::remove_dir_all(site.registry()).unwrap();
    }
    figure(&format!("notices: {} ended jobs reported to 8 callers at once, each exactly once", 50 * rounds));
}

#[test]
fn a_job_whose_end_another_command_has_shown_is_not_reported_again() {
    let site = Site::new(Engine::Local);
    let waited = site.launch_shell("true", &["-n", "waited"]);
    site.relay(&["wait", &waited]);
    let launched =
        ["launch", "--wait", "--runner", "shell", "-n", "launched", "-w", "workspace-projects/demo"];
    site.relay(&[&launched[..], &["true"]].concat());
    site.relay(&["run", "-n", "ran", "-w", "workspace-projects/demo", "--", "true"]);
    for job in ["waited#1", "launched#1", "ran#1"] {
        assert!(outbox::is_shown(&site, &job.parse().unwrap()), "{job}");
    }
    assert_eq!(site.relay(&["notices"]), "");
}

#[test]
fn notices_are_fast_with_many_ended_jobs() {
    let site = Site::new(Engine::Local);
    create_notices(&site, 200);
    let time = |_| {
        let started = Instant::now();
        site.relay(&["notices", "--peek"]);
        started.elapsed()
    };
    let times: Vec<_> = (0..50).map(time).collect();
    let (p50, p99) = (percentile(times.clone(), 50), percentile(times, 99));
    figure(&format!("notices: 200 ended jobs are looked through in {} (p50), {} (p99)", ms(p50), ms(p99)));
    assert!(p50.as_secs() < 10, "{p50:?}");
}
