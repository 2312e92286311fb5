//! Tests of the lists of jobs that work in the same folder, through the scheduler.

use std::collections::BTreeSet;

use common::event::{FailureKind, JobError};
use common::folder::FolderUse;
use common::record::{JobRecord, State};

use super::super::tests::{self as core_tests, id};
use super::*;

fn record(text: &str, state: State, folder: &str) -> JobRecord {
    let agent = (state != State::Queued).then_some("x");
    let record = core_tests::record(text, state, agent);
    JobRecord { workspace: folder.to_owned(), folder_use: FolderUse::Shared, ..record }
}

fn queued(text: &str) -> JobRecord {
    record(text, State::Queued, "/w")
}

fn start(text: &str) -> Action {
    Action::Start { agent: "x".into(), job: id(text), epoch: 1 }
}

fn shared_event(text: &str, jobs: &[&str]) -> Action {
    let jobs = jobs.iter().map(|job| id(job)).collect();
    Action::Record { job: id(text), body: EventBody::FolderShared { jobs } }
}

fn warning(text: &str, other: &str) -> Action {
    Action::WarnOfSharedExpectations { job: id(text), other: id(other) }
}

/// A scheduler with an agent that has enough slots.
fn scheduler() -> Scheduler {
    let mut scheduler = Scheduler::default();
    assert_eq!(scheduler.on_agent_connected(&"x".into(), 100, &BTreeSet::new()), []);
    scheduler
}

#[test]
fn jobs_in_overlapping_folders_name_each_other_before_the_later_one_starts() {
    let mut scheduler = scheduler();
    assert_eq!(scheduler.update_from_record(&queued("a#1")), [start("a#1")]);
    assert_eq!(
        scheduler.update_from_record(&record("b#1", State::Queued, "/w/sub")),
        [
            shared_event("a#1", &["b#1"]),
            warning("a#1", "b#1"),
            shared_event("b#1", &["a#1"]),
            warning("b#1", "a#1"),
            start("b#1"),
        ]
    );
    assert_eq!(scheduler.update_from_record(&record("b#1", State::Running, "/w/sub")), []);
    // These jobs work elsewhere.
    assert_eq!(scheduler.update_from_record(&record("c#1", State::Queued, "/v")), [start("c#1")]);
    let own = JobRecord { folder_use: FolderUse::OwnPlace, ..queued("d#1") };
    assert_eq!(scheduler.update_from_record(&own), [start("d#1")]);
    // A later job names only the jobs that still work. An earlier job names all of them, and is warned once.
    assert_eq!(scheduler.update_from_record(&record("b#1", State::Completed, "/w/sub")), []);
    assert_eq!(
        scheduler.update_from_record(&queued("e#1")),
        [
            shared_event("a#1", &["b#1", "e#1"]),
            shared_event("e#1", &["a#1"]),
            warning("e#1", "a#1"),
            start("e#1"),
        ]
    );
}

#[test]
fn jobs_that_follow_each_other_in_a_folder_do_not_name_each_other() {
    let mut scheduler = scheduler();
    for n in 1..=3 {
        let job = format!("a#{n}");
        assert_eq!(scheduler.update_from_record(&queued(&job)), [start(&job)]);
        assert_eq!(scheduler.update_from_record(&record(&job, State::Running, "/w")), []);
        assert_eq!(scheduler.update_from_record(&record(&job, State::Completed, "/w")), []);
    }
}

#[test]
fn a_refused_job_is_named_no_longer() {
    let mut scheduler = scheduler();
    scheduler.update_from_record(&queued("a#1"));
    scheduler.update_from_record(&queued("b#1"));
    assert_eq!(
        scheduler.on_refused(&"x".into(), &id("b#1"), "full".to_owned(), true),
        [shared_event("a#1", &[]), shared_event("b#1", &[])]
    );
    // After the end of the other job, the refused one starts alone.
    let slots = |scheduler: &mut Scheduler| scheduler.retry_full_agents();
    assert_eq!(scheduler.update_from_record(&record("a#1", State::Completed, "/w")), [start("b#1")]);
    assert_eq!(slots(&mut scheduler), []);

    assert_eq!(scheduler.update_from_record(&queued("c#1")).last(), Some(&start("c#1")));
    let error = Some(JobError { kind: FailureKind::Refused, message: String::new(), step: None });
    let refused = JobRecord { error, ..record("c#1", State::Failed, "/w") };
    assert_eq!(scheduler.update_from_record(&refused), [shared_event("b#1", &[])]);
}

#[test]
fn a_restarted_relay_records_only_what_the_records_lack() {
    let running = |text: &str, others: &[&str]| {
        let shared_with = others.iter().map(|job| id(job)).collect();
        JobRecord { shared_with, ..record(text, State::Running, "/w") }
    };
    let mut scheduler = Scheduler::default();
    assert_eq!(scheduler.update_from_record(&running("a#1", &["b#1", "old#1"])), []);
    assert_eq!(scheduler.update_from_record(&running("b#1", &["a#1"])), []);
    // The relay was killed between two events.
    let actions = scheduler.update_from_record(&running("c#1", &["a#1", "b#1"]));
    assert_eq!(
        actions,
        [shared_event("a#1", &["b#1", "old#1", "c#1"]), shared_event("b#1", &["a#1", "c#1"])]
    );
}

#[test]
fn a_list_ends_at_its_maximum() {
    let mut scheduler = scheduler();
    for n in 0..1000 {
        scheduler.update_from_record(&queued(&format!("a#{}", n + 1)));
    }
    let lists = scheduler.jobs.values().map(|job| job.sharing.jobs.len());
    assert_eq!(lists.max(), Some(MAX_SHARED_WITH));
}
