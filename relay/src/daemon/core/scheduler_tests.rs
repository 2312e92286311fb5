//! Tests of the scheduler, one scenario each.

use super::super::job_end::lost_job_event;
use super::super::tests::id;
use super::*;
use common::event::FailureKind;

fn record(text: &str, second: i64, state: State) -> JobRecord {
    let agent = (state != State::Queued).then_some("x");
    let created_at = Timestamp::from_second(second).unwrap();
    JobRecord { created_at, ..super::super::tests::record(text, state, agent) }
}

fn start(text: &str) -> Action {
    start_on("x", text)
}

fn start_on(agent: &str, text: &str) -> Action {
    Action::Start { agent: agent.into(), job: id(text), epoch: 1 }
}

fn cancel_on(agent: &str, text: &str, grace_ms: u64) -> Action {
    Action::Cancel { agent: agent.into(), job: id(text), grace_ms }
}

fn with_agent(agent: &str, mut record: JobRecord) -> JobRecord {
    record.agent = Some(agent.to_owned());
    record
}

fn link_lost_event(text: &str) -> Action {
    Action::Record { job: id(text), body: EventBody::LinkLost { reason: "closed".into() } }
}

fn job_set(jobs: &[&str]) -> BTreeSet<JobId> {
    jobs.iter().map(|job| id(job)).collect()
}

#[test]
fn jobs_start_in_launch_order_while_slots_are_free() {
    let mut scheduler = Scheduler::default();
    for (job, second) in [("c#1", 3), ("a#1", 1), ("b#1", 2)] {
        assert!(scheduler.update_from_record(&record(job, second, State::Queued)).is_empty());
    }
    assert_eq!(scheduler.on_agent_connected(&"x".into(), 2, &job_set(&[])), [start("a#1"), start("b#1")]);
    assert!(scheduler.update_from_record(&record("a#1", 1, State::Starting)).is_empty());
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Completed)), [start("c#1")]);
}

#[test]
fn an_agent_whose_machine_has_a_shortage_gets_no_job_until_the_shortage_ends() {
    let mut scheduler = Scheduler::default();
    scheduler.update_from_record(&record("a#1", 1, State::Queued));
    assert!(scheduler.set_low_resources(&"x".into(), true).is_empty());
    assert!(scheduler.on_agent_connected(&"x".into(), 2, &job_set(&[])).is_empty());
    assert!(scheduler.update_from_record(&record("b#1", 2, State::Queued)).is_empty());
    assert!(scheduler.retry_full_agents().is_empty());
    // The machine of another agent has no shortage.
    assert_eq!(scheduler.on_agent_connected(&"y".into(), 1, &job_set(&[])), [start_on("y", "a#1")]);
    assert_eq!(scheduler.set_low_resources(&"x".into(), false), [start("b#1")]);
    // The end of the connection ends the shortage, because the next hello has newer vitals.
    assert!(scheduler.set_low_resources(&"x".into(), true).is_empty());
    scheduler.on_agent_disconnected(&"x".into(), "closed");
    assert!(scheduler.on_agent_connected(&"x".into(), 2, &job_set(&["b#1"])).is_empty());
    assert_eq!(scheduler.update_from_record(&record("c#1", 3, State::Queued)), [start("c#1")]);
}

#[test]
fn a_full_agent_is_offered_a_job_again_when_one_of_its_jobs_ends() {
    let mut scheduler = Scheduler::default();
    scheduler.update_from_record(&record("a#1", 1, State::Running));
    scheduler.on_agent_connected(&"x".into(), 2, &job_set(&["a#1"]));
    assert_eq!(scheduler.update_from_record(&record("b#1", 2, State::Queued)), [start("b#1")]);
    assert!(scheduler.on_refused(&"x".into(), &id("b#1"), "full".into(), true).is_empty());
    assert!(scheduler.update_from_record(&record("b#1", 2, State::Queued)).is_empty());
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Failed)), [start("b#1")]);
}

#[test]
fn a_job_that_starts_while_its_link_is_lost_gets_one_event_about_the_loss() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 1, &job_set(&[]));
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Queued)), [start("a#1")]);
    // The job's first events wait for the disk while the connection that brought them ends.
    assert!(scheduler.on_agent_disconnected(&"x".into(), "closed").is_empty());
    let reason = "the connection was lost when the job started".to_owned();
    let link_lost_event = Action::Record { job: id("a#1"), body: EventBody::LinkLost { reason } };
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Starting)), [link_lost_event]);
    assert!(
        scheduler.update_from_record(&record("a#1", 1, State::Running)).is_empty(),
        "the event is recorded once"
    );
    let restored = EventBody::LinkRestored { agent: "x".to_owned() };
    assert_eq!(
        scheduler.on_agent_connected(&"x".into(), 1, &job_set(&["a#1"])),
        [Action::Record { job: id("a#1"), body: restored }]
    );
}

#[test]
fn a_refused_job_fails_with_the_reason() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 1, &job_set(&[]));
    scheduler.update_from_record(&record("a#1", 1, State::Queued));
    let actions = scheduler.on_refused(&"x".into(), &id("a#1"), "no codex".into(), false);
    assert_eq!(actions, [Action::Record { job: id("a#1"), body: refused_event("no codex".into()) }]);
}

#[test]
fn a_lost_link_is_recorded_and_restored_and_a_lost_offer_is_repeated() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 4, &job_set(&[]));
    scheduler.update_from_record(&record("a#1", 1, State::Queued));
    scheduler.update_from_record(&record("b#1", 2, State::Queued));
    scheduler.update_from_record(&record("a#1", 1, State::Running));
    assert_eq!(scheduler.on_agent_disconnected(&"x".into(), "closed"), [link_lost_event("a#1")]);
    // Events from before the loss arrive late, and the record of the loss has not arrived at all.
    scheduler.update_from_record(&record("a#1", 1, State::Running));
    assert!(scheduler.on_agent_disconnected(&"x".into(), "again").is_empty());
    let actions = scheduler.on_agent_connected(&"x".into(), 4, &job_set(&["a#1"]));
    let restored = Action::Record { job: id("a#1"), body: EventBody::LinkRestored { agent: "x".into() } };
    assert_eq!(actions, [restored, start("b#1")]);
}

#[test]
fn a_job_that_the_agent_has_forgotten_ends_as_lost() {
    let mut scheduler = Scheduler::default();
    scheduler.update_from_record(&record("a#1", 1, State::Running));
    let actions = scheduler.on_agent_connected(&"x".into(), 4, &job_set(&[]));
    assert_eq!(actions, [Action::Record { job: id("a#1"), body: lost_job_event(None) }]);
}

#[test]
fn only_a_job_lost_with_its_container_fails_with_the_cause_of_the_exit() {
    let cause =
        TerminationCause { kind: FailureKind::ContainerExited, message: "removed".into(), exit_code: None };
    for (exited_agent, expected_cause) in [("x", Some(&cause)), ("y", None)] {
        let mut scheduler = Scheduler::default();
        scheduler.update_from_record(&record("a#1", 1, State::Running));
        scheduler.set_exit_cause(Some((exited_agent.into(), cause.clone())));
        let ended = Action::Record { job: id("a#1"), body: lost_job_event(expected_cause) };
        assert_eq!(scheduler.on_agent_connected(&"x".into(), 4, &job_set(&[])), [ended]);
    }
}

#[test]
fn a_cancel_ends_a_queued_job_and_reaches_the_agent_of_a_running_one() {
    let mut scheduler = Scheduler::default();
    assert_eq!(scheduler.cancel_job(&id("a#1"), 5), None);
    scheduler.update_from_record(&record("a#1", 1, State::Queued));
    let ended = Action::Record { job: id("a#1"), body: cancelled_event() };
    assert_eq!(scheduler.cancel_job(&id("a#1"), 5), Some(vec![ended]));
    assert_eq!(scheduler.cancel_job(&id("a#1"), 5), Some(vec![]), "a repeat is harmless");

    scheduler.update_from_record(&record("b#1", 2, State::Running));
    assert_eq!(scheduler.cancel_job(&id("b#1"), 5), Some(vec![]), "the agent is disconnected");
    let cancel = cancel_on("x", "b#1", 5);
    assert_eq!(
        scheduler.on_agent_connected(&"x".into(), 4, &job_set(&["b#1"])),
        std::slice::from_ref(&cancel)
    );
    assert_eq!(scheduler.cancel_job(&id("b#1"), 9), Some(vec![cancel_on("x", "b#1", 9)]));
}

#[test]
fn each_job_goes_to_the_agent_with_the_most_free_slots() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 1, &job_set(&[]));
    scheduler.on_agent_connected(&"y".into(), 3, &job_set(&[]));
    let mut started = Vec::new();
    for (second, job) in ["a#1", "b#1", "c#1", "d#1", "e#1"].into_iter().enumerate() {
        let second = i64::try_from(second).unwrap();
        started.extend(scheduler.update_from_record(&record(job, second, State::Queued)));
    }
    let expected = [start_on("y", "a#1"), start_on("y", "b#1"), start_on("y", "c#1"), start_on("x", "d#1")];
    assert_eq!(started, expected, "the last job waits");
    scheduler.update_from_record(&with_agent("y", record("a#1", 0, State::Running)));
    assert_eq!(
        scheduler.update_from_record(&with_agent("y", record("a#1", 0, State::Failed))),
        [start_on("y", "e#1")]
    );
}

#[test]
fn the_disconnect_of_an_agent_does_not_affect_jobs_of_another_agent() {
    let mut scheduler = Scheduler::default();
    scheduler.update_from_record(&with_agent("x", record("a#1", 1, State::Running)));
    scheduler.update_from_record(&with_agent("y", record("b#1", 2, State::Running)));
    scheduler.on_agent_connected(&"x".into(), 1, &job_set(&["a#1"]));
    assert!(scheduler.on_agent_connected(&"y".into(), 1, &job_set(&["b#1"])).is_empty());
    assert_eq!(scheduler.on_agent_disconnected(&"y".into(), "closed"), [link_lost_event("b#1")]);
    assert!(
        scheduler.on_agent_connected(&"x".into(), 1, &job_set(&["a#1"])).is_empty(),
        "a hello of x says nothing about jobs of y"
    );
    let forgotten = Action::Record { job: id("b#1"), body: lost_job_event(None) };
    assert_eq!(scheduler.on_agent_connected(&"y".into(), 1, &job_set(&[])), std::slice::from_ref(&forgotten));
    scheduler.on_agent_disconnected(&"y".into(), "closed");
    assert_eq!(scheduler.end_jobs_of_lost_agent(&"y".into()), [forgotten]);
    assert!(scheduler.end_jobs_of_lost_agent(&"x".into()).is_empty(), "x is connected");
}

#[test]
fn an_offered_job_stays_with_its_agent_until_its_offers_are_released() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"y".into(), 1, &job_set(&[]));
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Queued)), [start_on("y", "a#1")]);
    assert!(
        scheduler.on_refused(&"x".into(), &id("a#1"), "no".into(), false).is_empty(),
        "the job was not offered to x"
    );
    scheduler.on_agent_disconnected(&"y".into(), "closed");
    assert!(scheduler.on_agent_connected(&"x".into(), 4, &job_set(&[])).is_empty(), "the job may run on y");
    assert_eq!(scheduler.release_offers(&"y".into()), [start("a#1")]);
}

#[test]
fn a_cancelled_job_that_its_agent_never_accepted_ends() {
    let cancelled = Action::Record { job: id("a#1"), body: cancelled_event() };
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 1, &job_set(&[]));
    scheduler.update_from_record(&record("a#1", 1, State::Queued));
    assert_eq!(scheduler.cancel_job(&id("a#1"), 5), Some(vec![cancel_on("x", "a#1", 5)]));
    assert_eq!(scheduler.on_agent_disconnected(&"x".into(), "closed"), std::slice::from_ref(&cancelled));
    assert_eq!(scheduler.on_agent_connected(&"x".into(), 1, &job_set(&[])), [cancelled]);
}

#[test]
fn a_full_agent_gets_offers_again_and_a_job_refused_after_a_cancel_ends() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 1, &job_set(&[]));
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Queued)), [start("a#1")]);
    assert_eq!(scheduler.on_refused(&"x".into(), &id("a#1"), "full".into(), true), []);
    assert_eq!(
        scheduler.update_from_record(&record("b#1", 2, State::Queued)),
        [],
        "x has reported that it is full"
    );
    assert_eq!(scheduler.retry_full_agents(), [start("a#1")]);
    assert_eq!(scheduler.retry_full_agents(), [], "x has no free slot");

    assert_eq!(scheduler.cancel_job(&id("a#1"), 5), Some(vec![cancel_on("x", "a#1", 5)]));
    let end = Action::Record { job: id("a#1"), body: cancelled_event() };
    assert_eq!(scheduler.on_refused(&"x".into(), &id("a#1"), "full".into(), true), [end]);
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Cancelled)), []);
    assert_eq!(scheduler.retry_full_agents(), [start("b#1")]);
}

#[test]
fn a_job_that_was_unreadable_until_now_is_lost_unless_its_agent_named_it() {
    let agent: AgentId = "x".into();
    let running = |link| JobRecord { link: Some(link), ..record("a#1", 1, State::Running) };
    let gone = Action::Record { job: id("a#1"), body: lost_job_event(None) };
    let reconnect = Action::Reconnect { agent: agent.clone() };
    // Columns: link state in the record; is the agent connected; does it have the job; expected actions.
    let table = [
        (Link::Connected, true, true, vec![reconnect.clone()]),
        (Link::Lost, true, true, vec![reconnect]),
        (Link::Connected, true, false, vec![gone]),
        // The action follows once the agent connects.
        (Link::Connected, false, false, vec![]),
    ];
    for (link, is_connected, has_job, expected) in table {
        let mut scheduler = Scheduler::default();
        if is_connected {
            scheduler.on_agent_connected(&agent, 1, &BTreeSet::new());
        }
        assert_eq!(
            scheduler.add_late_record(&running(link), |_| has_job),
            expected,
            "{link:?}, {is_connected}, {has_job}"
        );
        assert_eq!(scheduler.add_late_record(&running(link), |_| false), [], "the job is known by now");
    }
}

fn dependent_record(text: &str, second: i64, dependencies: &[&str]) -> JobRecord {
    let after = dependencies.iter().map(|job| id(job)).collect();
    JobRecord { after, ..record(text, second, State::Queued) }
}

fn dependency_failure(text: &str, reason: &str) -> Action {
    let reason = format!("{reason}: this job starts only after ");
    let Some((dependency, _)) = reason.split_once(' ') else { panic!("{reason}") };
    let reason = format!("{reason}{dependency} has completed (--after)");
    Action::Record { job: id(text), body: dependency_failed_event(reason) }
}

#[test]
fn a_job_waits_until_every_dependency_has_completed() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 9, &job_set(&[]));
    assert_eq!(scheduler.update_from_record(&record("a#1", 1, State::Queued)), [start("a#1")]);
    assert_eq!(scheduler.update_from_record(&record("b#1", 2, State::Queued)), [start("b#1")]);
    assert!(scheduler.update_from_record(&dependent_record("c#1", 3, &["a#1", "b#1"])).is_empty());
    assert!(scheduler.update_from_record(&record("a#1", 1, State::Completed)).is_empty());
    assert_eq!(scheduler.update_from_record(&record("b#1", 2, State::Completed)), [start("c#1")]);
}

#[test]
fn a_job_fails_with_a_dependency_that_did_not_complete() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 9, &job_set(&[]));
    scheduler.update_from_record(&record("a#1", 1, State::Queued));
    for (job, dependency) in [("b#1", "a#1"), ("c#1", "b#1"), ("d#1", "gone#1"), ("e#1", "a#1")] {
        assert!(scheduler.update_from_record(&dependent_record(job, 2, &[dependency])).is_empty());
    }
    assert_eq!(scheduler.unknown_dependencies(), [id("gone#1")]);
    assert!(scheduler.settle_dependency(&id("gone#1"), DependencyState::Pending).is_empty());
    let gone = scheduler.settle_dependency(&id("gone#1"), DependencyState::Removed);
    assert_eq!(gone, [dependency_failure("d#1", "gone#1 is no longer in the registry")]);
    let cancelled = Action::Record { job: id("e#1"), body: cancelled_event() };
    assert_eq!(scheduler.cancel_job(&id("e#1"), 5), Some(vec![cancelled]));
    let ended = scheduler.update_from_record(&record("a#1", 1, State::Cancelled));
    assert_eq!(ended, [dependency_failure("b#1", "a#1 was cancelled")]);
    let next = scheduler.update_from_record(&record("b#1", 1, State::Failed));
    assert_eq!(next, [dependency_failure("c#1", "b#1 failed")]);
}

#[test]
fn a_job_that_starts_from_a_result_waits_until_the_result_is_recorded() {
    let mut scheduler = Scheduler::default();
    scheduler.on_agent_connected(&"x".into(), 9, &job_set(&[]));
    scheduler.update_from_record(&record("a#1", 1, State::Running));
    let mut based = dependent_record("b#1", 2, &["a#1"]);
    based.base_job = Some(id("a#1"));
    scheduler.update_from_record(&based);
    let mut ended = record("a#1", 1, State::Completed);
    assert!(scheduler.update_from_record(&ended).is_empty());
    ended.result = Some(common::result::JobResult::none("relay/a-1".to_owned(), "b".to_owned()));
    assert_eq!(scheduler.update_from_record(&ended), [start("b#1")]);
}

#[test]
fn a_group_runs_only_as_many_jobs_as_its_limit_allows() {
    let group = |name: &str| Some(name.parse().unwrap());
    let mut scheduler = Scheduler::new([("g".parse().unwrap(), 1)].into(), false);
    scheduler.on_agent_connected(&"x".into(), 3, &job_set(&[]));
    let of_group =
        |text, second, name| JobRecord { group: group(name), ..record(text, second, State::Queued) };
    assert_eq!(scheduler.update_from_record(&of_group("a#1", 1, "g")), [start("a#1")]);
    assert!(scheduler.update_from_record(&of_group("b#1", 2, "g")).is_empty());
    assert!(scheduler.update_from_record(&of_group("c#1", 3, "g")).is_empty());
    // A group without a limit is not affected, nor is a job that was launched after the waiting ones.
    assert_eq!(scheduler.update_from_record(&of_group("d#1", 4, "free")), [start("d#1")]);
    assert_eq!(scheduler.on_refused(&"x".into(), &id("a#1"), "no".to_owned(), true), []);
    assert_eq!(scheduler.retry_full_agents(), [start("a#1")]);
    assert_eq!(scheduler.update_from_record(&of_group("a#1", 1, "g")), []);
    let ended = JobRecord { group: group("g"), ..record("a#1", 1, State::Failed) };
    assert_eq!(scheduler.update_from_record(&ended), [start("b#1")]);
}
