use std::collections::BTreeMap;

use common::record::State;

use super::*;
use crate::registry::outbox::{Way, WayState};
use crate::render::samples;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A registry with these ends, each with its second.
fn registry(dir: &std::path::Path, ends: &[(&str, i64)]) -> Registry {
    let registry = Registry::of(dir);
    registry.ensure().unwrap();
    for (job, second) in ends {
        end(&registry, job, *second, false, BTreeMap::new());
    }
    registry
}

fn end(registry: &Registry, job: &str, second: i64, attended: bool, ways: BTreeMap<String, Way>) {
    let mut record = samples::bare(job, State::Completed);
    record.origin.attended = attended;
    std::fs::write(registry.record(&record.job), record.to_bytes().unwrap()).unwrap();
    let entry = Entry { schema: outbox::SCHEMA, job: record.job, ended_at: at(second), session: None, ways };
    outbox::write(registry, &entry).unwrap();
}

fn shown() -> Shown {
    Shown { at: at(0), by: "notices".into(), session: None }
}

fn untold_jobs(registry: &Registry, now: i64) -> Vec<String> {
    untold(registry, at(now)).unwrap().into_iter().map(|entry| entry.job.to_string()).collect()
}

fn names(taken: &Taken) -> Vec<String> {
    taken.records.iter().map(|record| record.job.to_string()).collect()
}

#[test]
fn ends_are_taken_oldest_first_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &[("a#1", 30), ("b#1", 10), ("c#1", 20)]);
    let ends = untold(&registry, at(100)).unwrap();
    let peeked = take(&registry, &ends, 2, None).unwrap();
    assert_eq!((names(&peeked), peeked.left), (vec!["b#1".to_owned(), "c#1".to_owned()], 1));
    assert!(outbox::claim(&registry, &"c#1".parse().unwrap(), &shown()).unwrap());
    let taken = take(&registry, &ends, 2, Some(&shown())).unwrap();
    assert_eq!((names(&taken), taken.left), (vec!["b#1".to_owned(), "a#1".to_owned()], 0));
    assert_eq!(untold_jobs(&registry, 100), Vec::<String>::new());
    give_back(&registry, &taken.records);
    assert_eq!(untold_jobs(&registry, 100), ["b#1", "a#1"]);
}

#[test]
fn an_end_is_left_for_a_while_to_whoever_stayed_with_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &[]);
    end(&registry, "a#1", 100, true, BTreeMap::new());
    assert_eq!(untold_jobs(&registry, 109), Vec::<String>::new());
    assert_eq!(untold_jobs(&registry, 110), ["a#1"]);
}

#[test]
fn an_end_that_a_session_got_as_its_input_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &[]);
    let way = |state| Way { state, attempts: 1, next_at: None, last_error: None };
    end(&registry, "a#1", 1, false, [("codex".to_owned(), way(WayState::Taken))].into());
    end(&registry, "b#1", 2, false, [("codex".to_owned(), way(WayState::GivenUp))].into());
    end(&registry, "c#1", 3, false, [("webhook".to_owned(), way(WayState::Taken))].into());
    assert_eq!(untold_jobs(&registry, 100), ["b#1", "c#1"]);
}

#[test]
fn a_job_that_was_removed_is_passed_over_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &[("a#1", 1), ("b#1", 2)]);
    std::fs::remove_file(registry.record(&"a#1".parse().unwrap())).unwrap();
    let ends = untold(&registry, at(100)).unwrap();
    assert_eq!(names(&take(&registry, &ends, 5, Some(&shown())).unwrap()), ["b#1"]);
    assert_eq!(untold_jobs(&registry, 100), Vec::<String>::new());
}
