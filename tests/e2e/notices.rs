//! `relay notices`: each outcome is reported once, however many processes ask, and by one command only.

use std::collections::BTreeMap;
use std::time::Instant;

use common::ids::JobId;
use common::origin::Origin;
use jiff::SignedDuration;
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::outbox::{self, invent};
use relay_tests::harness::{Engine, Site};

/// Creates ended jobs of no session, the oldest first.
fn ends(site: &Site, count: u32) -> Vec<JobId> {
    let end = |n: u32| {
        let age = SignedDuration::from_secs(i64::from(10_000 - n));
        invent(site, &format!("job#{n}"), &Origin::default(), age)
    };
    (1..=count).map(end).collect()
}

/// Jobs that a text reports, in its order.
fn told(text: &str) -> Vec<String> {
    let headline = |line: &str| Some(line.strip_prefix("relay: worker ")?.split_once(' ')?.0.to_owned());
    text.lines().filter_map(headline).collect()
}

#[test]
fn ends_are_told_once_oldest_first_five_at_a_time() {
    let site = Site::new(Engine::Local);
    assert_eq!(site.relay(&["notices"]), "");
    let jobs: Vec<String> = ends(&site, 7).iter().map(ToString::to_string).collect();
    for _ in 0..2 {
        let peeked = site.relay(&["notices", "--peek"]);
        assert_eq!(told(&peeked), jobs[..5]);
        assert!(peeked.ends_with("\n\n2 more jobs have ended: `relay notices` shows the next\n"), "{peeked}");
    }
    assert_eq!(told(&site.relay(&["notices"])), jobs[..5]);
    let rest = site.relay(&["notices", "--json"]);
    let rest: Vec<serde_json::Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rest.iter().map(|record| record["job"].as_str().unwrap()).collect::<Vec<_>>(), jobs[5..]);
    assert_eq!(site.relay(&["notices"]), "");
}

#[test]
fn an_end_that_nobody_read_is_told_again() {
    let site = Site::new(Engine::Local);
    let job = &ends(&site, 1)[0];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(site.command(&["notices"]).stdout(writer).status().unwrap().success());
    assert!(!outbox::is_told(&site, job));
    assert_eq!(told(&site.relay(&["notices"])), [job.to_string()]);
    assert!(outbox::is_told(&site, job));
}

#[test]
fn many_who_ask_at_once_are_told_each_end_once_in_all() {
    let site = Site::new(Engine::Local);
    let rounds = times(1, 20);
    for _ in 0..rounds {
        let jobs = ends(&site, 50);
        // Each asks until nothing is left.
        let ask = || {
            let mut texts = Vec::new();
            loop {
                let text = site.relay(&["notices"]);
                if text.is_empty() {
                    return texts;
                }
                texts.extend(told(&text));
            }
        };
        let all: Vec<String> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect()
        });
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for job in all {
            *counts.entry(job).or_default() += 1;
        }
        let expected: BTreeMap<String, usize> = jobs.iter().map(|job| (job.to_string(), 1)).collect();
        assert_eq!(counts, expected);
        std::fs::remove_dir_all(site.registry()).unwrap();
    }
    figure(&format!("notices: {} ends told to 8 callers at once, each exactly once", 50 * rounds));
}

#[test]
fn what_a_command_has_shown_is_no_news() {
    let site = Site::new(Engine::Local);
    let waited = site.launch_shell("true", &["-n", "waited"]);
    site.relay(&["wait", &waited]);
    let launched =
        ["launch", "--wait", "--runner", "shell", "-n", "launched", "-w", "workspace-projects/demo"];
    site.relay(&[&launched[..], &["true"]].concat());
    site.relay(&["run", "-n", "ran", "-w", "workspace-projects/demo", "--", "true"]);
    for job in ["waited#1", "launched#1", "ran#1"] {
        assert!(outbox::is_told(&site, &job.parse().unwrap()), "{job}");
    }
    assert_eq!(site.relay(&["notices"]), "");
}

#[test]
fn notices_are_quick_with_many_ends() {
    let site = Site::new(Engine::Local);
    ends(&site, 200);
    let time = |_| {
        let begun = Instant::now();
        site.relay(&["notices", "--peek"]);
        begun.elapsed()
    };
    let times: Vec<_> = (0..50).map(time).collect();
    let (p50, p99) = (percentile(times.clone(), 50), percentile(times, 99));
    figure(&format!("notices: 200 ends are looked through in {} (p50), {} (p99)", ms(p50), ms(p99)));
    assert!(p50.as_millis() < 200, "{p50:?}");
}
