//! Tests of the folder guard, through the scheduler: scenarios with jobs in the same folder.

use common::event::EventBody;
use common::folder::FolderUse;
use common::record::{JobRecord, State};
use common::wait_reason::WaitReason;
use jiff::Timestamp;

use super::super::scheduler::{Action, Scheduler};
use super::super::tests::{self as core_tests, id};
use super::*;

fn record(text: &str, second: i64, state: State, folder: &str) -> JobRecord {
    let agent = (state != State::Queued).then_some("x");
    let created_at = Timestamp::from_second(second).unwrap();
    JobRecord { created_at, workspace: folder.to_owned(), ..core_tests::record(text, state, agent) }
}

fn with_shared_folder(record: JobRecord) -> JobRecord {
    JobRecord { folder_use: FolderUse::Shared, ..record }
}

fn start(text: &str) -> Action {
    Action::Start { agent: "x".into(), job: id(text), epoch: 1 }
}

fn waiting_event(text: &str, blocker: &str) -> Action {
    let reason = Some(WaitReason::Folder { job: id(blocker) });
    Action::Record { job: id(text), body: EventBody::Waiting { reason } }
}

/// A scheduler with an agent that has enough slots.
fn scheduler() -> Scheduler {
    let mut scheduler = Scheduler::default();
    assert_eq!(scheduler.on_agent_connected(&"x".into(), 100, &BTreeSet::new()), []);
    scheduler
}

#[test]
fn jobs_in_overlapping_folders_run_one_after_the_other_and_others_beside_them() {
    // The folder of a running job, the folder of a new job, and whether the new job waits.
    for (running_folder, new_folder, has_to_wait) in [
        ("/w/a", "/w/a", true),
        ("/w/a", "/w/a/sub/deep", true),
        ("/w/a/sub/deep", "/w/a", true),
        ("/w/a", "/w/ab", false),
        ("/w/a", "/w/a-b", false),
        ("/w/a/b", "/w/a/c", false),
        ("/w/a", "/w/b", false),
    ] {
        let mut scheduler = scheduler();
        assert_eq!(
            scheduler.update_from_record(&record("a#1", 1, State::Queued, running_folder)),
            [start("a#1")]
        );
        let actions = scheduler.update_from_record(&record("b#1", 2, State::Queued, new_folder));
        let expected = if has_to_wait { waiting_event("b#1", "a#1") } else { start("b#1") };
        assert_eq!(actions, [expected], "{new_folder} beside {running_folder}");
    }
}

#[test]
fn waiters_start_in_launch_order_and_do_not_delay_the_rest_of_the_queue() {
    let mut scheduler = scheduler();
    let queued = |job, second, folder| record(job, second, State::Queued, folder);
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1, "/w/a")), [start("a#1")]);
    // A job for the whole folder is not overtaken by jobs in parts of the folder.
    assert_eq!(scheduler.update_from_record(&queued("all#1", 2, "/w")), [waiting_event("all#1", "a#1")]);
    assert_eq!(scheduler.update_from_record(&queued("b#1", 3, "/w/b")), [waiting_event("b#1", "all#1")]);
    assert_eq!(scheduler.update_from_record(&queued("a#2", 4, "/w/a")), [waiting_event("a#2", "all#1")]);
    assert_eq!(scheduler.update_from_record(&queued("c#1", 5, "/elsewhere")), [start("c#1")]);
    let end = |job, folder| record(job, 1, State::Completed, folder);
    assert_eq!(scheduler.update_from_record(&end("a#1", "/w/a")), [start("all#1")]);
    assert_eq!(scheduler.update_from_record(&end("all#1", "/w")), [start("b#1"), start("a#2")]);
}

#[test]
fn jobs_that_share_a_folder_and_jobs_with_a_clone_do_not_wait() {
    let mut scheduler = scheduler();
    let queued = |job, second| record(job, second, State::Queued, "/w");
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1)), [start("a#1")]);
    let actions = scheduler.update_from_record(&with_shared_folder(queued("s#1", 2)));
    assert_eq!(actions.last(), Some(&start("s#1")));
    let own = JobRecord { folder_use: FolderUse::OwnPlace, ..queued("own#1", 3) };
    assert_eq!(scheduler.update_from_record(&own), [start("own#1")]);
    // Other jobs wait for a job that shares its folder, but not for a job with a clone of its own.
    assert_eq!(scheduler.update_from_record(&queued("b#1", 4)), [waiting_event("b#1", "a#1")]);
    assert_eq!(
        scheduler.update_from_record(&record("a#1", 1, State::Failed, "/w")),
        [waiting_event("b#1", "s#1")],
        "the next reason is recorded"
    );
    let end = with_shared_folder(record("s#1", 2, State::Cancelled, "/w"));
    assert_eq!(scheduler.update_from_record(&end), [start("b#1")]);
}

#[test]
fn after_a_cancelled_waiter_the_next_one_reports_its_new_blocker() {
    let mut scheduler = scheduler();
    let queued = |job, second| record(job, second, State::Queued, "/w");
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1)), [start("a#1")]);
    assert_eq!(scheduler.update_from_record(&queued("b#1", 2)), [waiting_event("b#1", "a#1")]);
    assert_eq!(scheduler.update_from_record(&queued("c#1", 3)), [waiting_event("c#1", "b#1")]);
    let actions = scheduler.cancel_job(&id("b#1"), 0).unwrap();
    assert_eq!(actions[1..], [waiting_event("c#1", "a#1")]);
    assert_eq!(scheduler.update_from_record(&record("b#1", 2, State::Cancelled, "/w")), []);
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Completed, "/w")), [start("c#1")]);
}

#[test]
fn a_folder_is_guarded_after_a_restart_and_while_the_agent_is_disconnected() {
    let mut scheduler = Scheduler::default();
    let running = record("a#1", 2, State::Running, "/w");
    assert_eq!(scheduler.update_from_record(&running), []);
    let waiting = Some(WaitReason::Folder { job: id("a#1") }.to_string());
    // This job was launched earlier, but is found later.
    let queued = JobRecord { waiting, ..record("b#1", 1, State::Queued, "/w") };
    assert_eq!(scheduler.update_from_record(&queued), [], "the reason is already recorded");
    assert_eq!(scheduler.on_agent_connected(&"y".into(), 2, &BTreeSet::new()), []);
    let ended = scheduler.update_from_record(&record("a#1", 2, State::Failed, "/w"));
    assert_eq!(ended, [Action::Start { agent: "y".into(), job: id("b#1"), epoch: 1 }]);
}

#[test]
fn a_job_that_got_its_folder_but_no_slot_no_longer_reports_a_wait_for_the_folder() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 2, &BTreeSet::new());
    let queued = |job, second, folder| record(job, second, State::Queued, folder);
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1, "/a")), [start("a#1")]);
    assert_eq!(scheduler.update_from_record(&queued("b#1", 2, "/b")), [start("b#1")]);
    assert_eq!(scheduler.update_from_record(&queued("c#1", 3, "/c")), []);
    assert_eq!(scheduler.update_from_record(&queued("a#2", 4, "/a")), [waiting_event("a#2", "a#1")]);
    let free = Action::Record { job: id("a#2"), body: EventBody::Waiting { reason: None } };
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Completed, "/a")), [start("c#1"), free]);
    assert_eq!(scheduler.update_from_record(&record("b#1", 2, State::Completed, "/b")), [start("a#2")]);
}

#[test]
fn a_job_that_is_found_late_starts_before_jobs_launched_after_it() {
    let mut scheduler = Scheduler::default();
    let queued = |job, second| record(job, second, State::Queued, "/w");
    assert_eq!(scheduler.update_from_record(&queued("b#1", 2)), []);
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1)), []);
    assert_eq!(
        scheduler.on_agent_connected(&"x".into(), 9, &BTreeSet::new()),
        [start("a#1"), waiting_event("b#1", "a#1")]
    );
}

#[test]
fn ten_thousand_jobs_in_one_folder_or_in_nested_folders_all_end() {
    let folders: [fn(i64) -> String; 3] = [
        |_| "/w".to_owned(),
        |n| format!("/w/{n}"),
        |n| format!("/w{}", "/x".repeat(usize::try_from(n % 9).unwrap_or(0))),
    ];
    for folder_of in folders {
        let mut scheduler = scheduler();
        let mut running = BTreeSet::new();
        let collect_started = |actions: Vec<Action>, running: &mut BTreeSet<JobId>| {
            running.extend(actions.into_iter().filter_map(|action| match action {
                Action::Start { job, .. } => Some(job),
                _ => None,
            }));
        };
        let job = |n: i64, state| record(&format!("j#{n}"), n, state, &folder_of(n));
        for n in 1..=10_000 {
            collect_started(scheduler.update_from_record(&job(n, State::Queued)), &mut running);
        }
        let mut ended = 0;
        while let Some(next) = running.pop_first() {
            ended += 1;
            let record = job(i64::from(next.number()), State::Completed);
            collect_started(scheduler.update_from_record(&record), &mut running);
        }
        assert_eq!(ended, 10_000);
    }
}
