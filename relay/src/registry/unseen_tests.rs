use std::collections::BTreeMap;

use common::record::State;
use jiff::Timestamp;

use super::*;
use crate::render::samples;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Creates a registry with completion notices of these jobs, each with its end time in seconds.
fn registry(dir: &std::path::Path, notices: &[(&str, i64)]) -> Registry {
    let registry = Registry::for_project(dir);
    registry.ensure().unwrap();
    for (job, second) in notices {
        let record = samples::minimal_record(job, State::Completed);
        std::fs::write(registry.record(&record.job), record.to_bytes().unwrap()).unwrap();
        let (schema, job, ended_at) = (outbox::SCHEMA_VERSION, record.job, time(*second));
        let entry = OutboxEntry { schema, job, ended_at, session: None, channels: BTreeMap::new() };
        outbox::write_entry(&registry, &entry).unwrap();
    }
    registry
}

fn claim() -> NoticeClaim {
    NoticeClaim { at: time(0), by: "notices".into(), session: None }
}

fn unclaimed_jobs(registry: &Registry) -> Vec<String> {
    unclaimed_notices(registry).unwrap().into_iter().map(|entry| entry.job.to_string()).collect()
}

fn job_names(claimed: &ClaimedNotices) -> Vec<String> {
    claimed.records.iter().map(|record| record.job.to_string()).collect()
}

#[test]
fn notices_are_claimed_oldest_first_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &[("a#1", 30), ("b#1", 10), ("c#1", 20)]);
    let notices = unclaimed_notices(&registry).unwrap();
    let peeked = claim_notices(&registry, &notices, 2, None).unwrap();
    assert_eq!((job_names(&peeked), peeked.remaining), (vec!["b#1".to_owned(), "c#1".to_owned()], 1));
    assert!(outbox::claim_notice(&registry, &"c#1".parse().unwrap(), &claim()).unwrap());
    let claimed = claim_notices(&registry, &notices, 2, Some(&claim())).unwrap();
    assert_eq!((job_names(&claimed), claimed.remaining), (vec!["b#1".to_owned(), "a#1".to_owned()], 0));
    assert_eq!(unclaimed_jobs(&registry), Vec::<String>::new());
    release_claims(&registry, &claimed.records);
    assert_eq!(unclaimed_jobs(&registry), ["b#1", "a#1"]);
}

#[test]
fn the_notice_of_a_removed_job_is_claimed_but_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &[("a#1", 1), ("b#1", 2)]);
    std::fs::remove_file(registry.record(&"a#1".parse().unwrap())).unwrap();
    let notices = unclaimed_notices(&registry).unwrap();
    assert_eq!(job_names(&claim_notices(&registry, &notices, 5, Some(&claim())).unwrap()), ["b#1"]);
    assert_eq!(unclaimed_jobs(&registry), Vec::<String>::new());
}
