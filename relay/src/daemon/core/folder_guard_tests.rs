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

fn shared(record: JobRecord) -> JobRecord {
    JobRecord { folder_use: FolderUse::Shared, ..record }
}

fn start(text: &str) -> Action {
    Action::Start { agent: "x".into(), job: id(text), epoch: 1 }
}

fn waits(text: &str, blocker: &str) -> Action {
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
    // The folder of a running job, that of a new one, and whether the new one waits.
    for (held, wanted, expected) in [
        ("/w/a", "/w/a", true),
        ("/w/a", "/w/a/sub/deep", true),
        ("/w/a/sub/deep", "/w/a", true),
        ("/w/a", "/w/ab", false),
        ("/w/a", "/w/a-b", false),
        ("/w/a/b", "/w/a/c", false),
        ("/w/a", "/w/b", false),
    ] {
        let mut scheduler = scheduler();
        assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Queued, held)), [start("a#1")]);
        let actions = scheduler.update_from_record(&record("b#1", 2, State::Queued, wanted));
        let expected = if expected { waits("b#1", "a#1") } else { start("b#1") };
        assert_eq!(actions, [expected], "{wanted} beside {held}");
    }
}

#[test]
fn waiters_start_in_their_order_and_do_not_hold_up_the_rest_of_the_queue() {
    let mut scheduler = scheduler();
    let queued = |job, second, folder| record(job, second, State::Queued, folder);
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1, "/w/a")), [start("a#1")]);
    // A job for the whole folder is not overtaken by those in parts of it.
    assert_eq!(scheduler.update_from_record(&queued("all#1", 2, "/w")), [waits("all#1", "a#1")]);
    assert_eq!(scheduler.update_from_record(&queued("b#1", 3, "/w/b")), [waits("b#1", "all#1")]);
    assert_eq!(scheduler.update_from_record(&queued("a#2", 4, "/w/a")), [waits("a#2", "all#1")]);
    assert_eq!(scheduler.update_from_record(&queued("c#1", 5, "/elsewhere")), [start("c#1")]);
    let end = |job, folder| record(job, 1, State::Completed, folder);
    assert_eq!(scheduler.update_from_record(&end("a#1", "/w/a")), [start("all#1")]);
    assert_eq!(scheduler.update_from_record(&end("all#1", "/w")), [start("b#1"), start("a#2")]);
}

#[test]
fn shared_jobs_and_jobs_with_a_place_do_not_wait() {
    let mut scheduler = scheduler();
    let queued = |job, second| record(job, second, State::Queued, "/w");
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1)), [start("a#1")]);
    assert_eq!(scheduler.update_from_record(&shared(queued("s#1", 2))), [start("s#1")]);
    let own = JobRecord { folder_use: FolderUse::OwnPlace, ..queued("own#1", 3) };
    assert_eq!(scheduler.update_from_record(&own), [start("own#1")]);
    // Others wait for a shared job, but not for one with a place of its own.
    assert_eq!(scheduler.update_from_record(&queued("b#1", 4)), [waits("b#1", "a#1")]);
    assert_eq!(
        scheduler.update_from_record(&record("a#1", 1, State::Failed, "/w")),
        [waits("b#1", "s#1")],
        "the next reason is recorded"
    );
    let end = shared(record("s#1", 2, State::Cancelled, "/w"));
    assert_eq!(scheduler.update_from_record(&end), [start("b#1")]);
}

#[test]
fn a_cancelled_waiter_makes_room_and_the_next_one_learns_what_it_waits_for() {
    let mut scheduler = scheduler();
    let queued = |job, second| record(job, second, State::Queued, "/w");
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1)), [start("a#1")]);
    assert_eq!(scheduler.update_from_record(&queued("b#1", 2)), [waits("b#1", "a#1")]);
    assert_eq!(scheduler.update_from_record(&queued("c#1", 3)), [waits("c#1", "b#1")]);
    let actions = scheduler.cancel_job(&id("b#1"), 0).unwrap();
    assert_eq!(actions[1..], [waits("c#1", "a#1")]);
    assert_eq!(scheduler.update_from_record(&record("b#1", 2, State::Cancelled, "/w")), []);
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Completed, "/w")), [start("c#1")]);
}

#[test]
fn a_folder_is_guarded_after_a_restart_and_while_its_agent_is_away() {
    let mut scheduler = Scheduler::default();
    let running = record("a#1", 2, State::Running, "/w");
    assert_eq!(scheduler.update_from_record(&running), []);
    let waiting = Some(WaitReason::Folder { job: id("a#1") }.to_string());
    // This one was launched earlier, and found later.
    let queued = JobRecord { waiting, ..record("b#1", 1, State::Queued, "/w") };
    assert_eq!(scheduler.update_from_record(&queued), [], "the reason is already recorded");
    assert_eq!(scheduler.on_agent_connected(&"y".into(), 2, &BTreeSet::new()), []);
    let ended = scheduler.update_from_record(&record("a#1", 2, State::Failed, "/w"));
    assert_eq!(ended, [Action::Start { agent: "y".into(), job: id("b#1"), epoch: 1 }]);
}

#[test]
fn a_job_that_got_a_folder_but_no_slot_says_that_it_waits_no_longer() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 2, &BTreeSet::new());
    let queued = |job, second, folder| record(job, second, State::Queued, folder);
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1, "/a")), [start("a#1")]);
    assert_eq!(scheduler.update_from_record(&queued("b#1", 2, "/b")), [start("b#1")]);
    assert_eq!(scheduler.update_from_record(&queued("c#1", 3, "/c")), []);
    assert_eq!(scheduler.update_from_record(&queued("a#2", 4, "/a")), [waits("a#2", "a#1")]);
    let free = Action::Record { job: id("a#2"), body: EventBody::Waiting { reason: None } };
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Completed, "/a")), [start("c#1"), free]);
    assert_eq!(scheduler.update_from_record(&record("b#1", 2, State::Completed, "/b")), [start("a#2")]);
}

#[test]
fn a_job_that_comes_late_goes_before_those_launched_after_it() {
    let mut scheduler = Scheduler::default();
    let queued = |job, second| record(job, second, State::Queued, "/w");
    assert_eq!(scheduler.update_from_record(&queued("b#1", 2)), []);
    assert_eq!(scheduler.update_from_record(&queued("a#1", 1)), []);
    assert_eq!(
        scheduler.on_agent_connected(&"x".into(), 9, &BTreeSet::new()),
        [start("a#1"), waits("b#1", "a#1")]
    );
}

#[test]
fn ten_thousand_jobs_in_one_folder_and_in_nested_ones_are_no_load() {
    let folders: [fn(i64) -> String; 3] = [
        |_| "/w".to_owned(),
        |n| format!("/w/{n}"),
        |n| format!("/w{}", "/x".repeat(usize::try_from(n % 9).unwrap_or(0))),
    ];
    for folder_of in folders {
        let mut scheduler = scheduler();
        let mut running = BTreeSet::new();
        let note = |actions: Vec<Action>, running: &mut BTreeSet<JobId>| {
            running.extend(actions.into_iter().filter_map(|action| match action {
                Action::Start { job, .. } => Some(job),
                _ => None,
            }));
        };
        let job = |n: i64, state| record(&format!("j#{n}"), n, state, &folder_of(n));
        for n in 1..=10_000 {
            note(scheduler.update_from_record(&job(n, State::Queued)), &mut running);
        }
        let mut ended = 0;
        while let Some(next) = running.pop_first() {
            ended += 1;
            let record = job(i64::from(next.number()), State::Completed);
            note(scheduler.update_from_record(&record), &mut running);
        }
        assert_eq!(ended, 10_000);
    }
}
