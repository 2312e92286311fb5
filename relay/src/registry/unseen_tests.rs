use std::collections::BTreeMap;

use common::record::State;
use jiff::Timestamp;

use super::*;
use crate::render::samples;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A registry with completion notices of these jobs, each with its end time in seconds.
fn registry(dir: &std::path::Path, ends: &[(&str, i64)]) -> Registry {
    let registry = Registry::for_project(dir);
    registry.ensure().unwrap();
    for (job, second) in ends {
        let record = samples::bare(job, State::Completed);
        std::fs::write(registry.record(&record.job), record.to_bytes().unwrap()).unwrap();
        let (schema, job, ended_at) = (outbox::SCHEMA, record.job, at(*second));
        let entry = OutboxEntry { schema, job, ended_at, session: None, channels: BTreeMap::new() };
        outbox::write_entry(&registry, &entry).unwrap();
    }
    registry
}

fn shown() -> NoticeClaim {
    NoticeClaim { at: at(0), by: "notices".into(), session: None }
}

fn untold_jobs(registry: &Registry) -> Vec<String> {
    unclaimed_notices(registry).unwrap().into_iter().map(|entry| entry.job.to_string()).collect()
}

fn names(taken: &ClaimedNotices) -> Vec<String> {
    taken.records.iter().map(|record| record.job.to_string()).collect()
}

#[test]
fn ends_are_taken_oldest_first_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &[("a#1", 30), ("b#1", 10), ("c#1", 20)]);
    let ends = unclaimed_notices(&registry).unwrap();
    let peeked = claim_notices(&registry, &ends, 2, None).unwrap();
    assert_eq!((names(&peeked), peeked.remaining), (vec!["b#1".to_owned(), "c#1".to_owned()], 1));
    assert!(outbox::claim_notice(&registry, &"c#1".parse().unwrap(), &shown()).unwrap());
    let taken = claim_notices(&registry, &ends, 2, Some(&shown())).unwrap();
    assert_eq!((names(&taken), taken.remaining), (vec!["b#1".to_owned(), "a#1".to_owned()], 0));
    assert_eq!(untold_jobs(&registry), Vec::<String>::new());
    release_claims(&registry, &taken.records);
    assert_eq!(untold_jobs(&registry), ["b#1", "a#1"]);
}

#[test]
fn a_job_that_was_removed_is_passed_over_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &[("a#1", 1), ("b#1", 2)]);
    std::fs::remove_file(registry.record(&"a#1".parse().unwrap())).unwrap();
    let ends = unclaimed_notices(&registry).unwrap();
    assert_eq!(names(&claim_notices(&registry, &ends, 5, Some(&shown())).unwrap()), ["b#1"]);
    assert_eq!(untold_jobs(&registry), Vec::<String>::new());
}
