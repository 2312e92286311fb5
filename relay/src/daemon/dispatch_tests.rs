//! The dispatch, one story per test.

use common::event::Queued;
use common::job::Runner;

use super::*;

fn id(text: &str) -> JobId {
    text.parse().unwrap()
}

fn record(text: &str, second: i64, state: State) -> JobRecord {
    let queued = Queued {
        workspace: "/w".into(),
        prompt_summary: "x".into(),
        runner: Runner::Shell,
        engine: "local".into(),
        log_path: "/l".into(),
        events_path: "/e".into(),
    };
    let mut record = JobRecord::queued(id(text), Timestamp::from_second(second).unwrap(), &queued);
    record.state = state;
    if state != State::Queued {
        record.epoch = 1;
        record.link = Some(Link::Connected);
    }
    record
}

fn start(text: &str) -> Action {
    Action::Start { job: id(text), epoch: 1 }
}

fn held(jobs: &[&str]) -> BTreeSet<JobId> {
    jobs.iter().map(|job| id(job)).collect()
}

#[test]
fn jobs_run_first_come_first_served_as_far_as_there_is_room() {
    let mut dispatch = Dispatch::default();
    for (job, second) in [("c#1", 3), ("a#1", 1), ("b#1", 2)] {
        assert!(dispatch.record(&record(job, second, State::Queued)).is_empty());
    }
    assert_eq!(dispatch.agent_up("x", 2, &held(&[])), [start("a#1"), start("b#1")]);
    assert!(dispatch.record(&record("a#1", 1, State::Starting)).is_empty());
    assert_eq!(dispatch.record(&record("a#1", 1, State::Completed)), [start("c#1")]);
}

#[test]
fn a_busy_agent_is_asked_again_when_a_job_ends() {
    let mut dispatch = Dispatch::default();
    dispatch.record(&record("a#1", 1, State::Running));
    dispatch.agent_up("x", 2, &held(&["a#1"]));
    assert_eq!(dispatch.record(&record("b#1", 2, State::Queued)), [start("b#1")]);
    assert!(dispatch.refused(&id("b#1"), "full".into(), true).is_empty());
    assert!(dispatch.record(&record("b#1", 2, State::Queued)).is_empty());
    assert_eq!(dispatch.record(&record("a#1", 1, State::Failed)), [start("b#1")]);
}

#[test]
fn a_refused_job_fails_with_the_reason() {
    let mut dispatch = Dispatch::default();
    dispatch.agent_up("x", 1, &held(&[]));
    dispatch.record(&record("a#1", 1, State::Queued));
    let actions = dispatch.refused(&id("a#1"), "no codex".into(), false);
    assert_eq!(actions, [Action::Record { job: id("a#1"), body: refusal("no codex".into()) }]);
}

#[test]
fn a_lost_link_is_recorded_and_healed_and_an_offer_that_was_lost_is_made_again() {
    let mut dispatch = Dispatch::default();
    dispatch.agent_up("x", 4, &held(&[]));
    dispatch.record(&record("a#1", 1, State::Queued));
    dispatch.record(&record("b#1", 2, State::Queued));
    dispatch.record(&record("a#1", 1, State::Running));
    let lost = dispatch.agent_down("closed");
    assert_eq!(
        lost,
        [Action::Record { job: id("a#1"), body: EventBody::LinkLost { reason: "closed".into() } }]
    );
    let mut stale = record("a#1", 1, State::Running);
    stale.link = Some(Link::Lost);
    dispatch.record(&stale);
    assert!(dispatch.agent_down("again").is_empty());
    let back = dispatch.agent_up("x", 4, &held(&["a#1"]));
    let restored = Action::Record { job: id("a#1"), body: EventBody::LinkRestored { agent: "x".into() } };
    assert_eq!(back, [restored, start("b#1")]);
}

#[test]
fn a_job_that_the_agent_has_forgotten_ends_as_lost() {
    let mut dispatch = Dispatch::default();
    dispatch.record(&record("a#1", 1, State::Running));
    let actions = dispatch.agent_up("x", 4, &held(&[]));
    assert_eq!(actions, [Action::Record { job: id("a#1"), body: forgotten(None) }]);
}

#[test]
fn a_job_that_is_gone_with_its_container_ends_with_the_containers_fate() {
    let mut dispatch = Dispatch::default();
    dispatch.record(&record("a#1", 1, State::Running));
    let message = "the container 'platform' was removed".to_owned();
    let fate = Fate { kind: FailureKind::ContainerExited, message, exit_code: None };
    dispatch.share_fate(Some(fate.clone()));
    let ended = Action::Record { job: id("a#1"), body: forgotten(Some(&fate)) };
    assert_eq!(dispatch.agent_up("x", 4, &held(&[])), [ended]);
}

#[test]
fn a_frozen_agent_is_offered_nothing_and_its_jobs_are_out_of_sight_until_it_goes_on() {
    let mut dispatch = Dispatch::default();
    dispatch.record(&record("a#1", 1, State::Running));
    dispatch.agent_up("x", 4, &held(&["a#1"]));
    let lost = Action::Record { job: id("a#1"), body: EventBody::LinkLost { reason: "paused".into() } };
    assert_eq!(dispatch.hold("paused"), [lost]);
    assert_eq!(dispatch.hold("paused"), [], "a repeat is no news");
    assert_eq!(dispatch.record(&record("b#1", 2, State::Queued)), []);
    let restored = Action::Record { job: id("a#1"), body: EventBody::LinkRestored { agent: "x".into() } };
    assert_eq!(dispatch.release("x"), [restored, start("b#1")]);
}

#[test]
fn a_cancel_reaches_a_job_wherever_it_is() {
    let mut dispatch = Dispatch::default();
    assert_eq!(dispatch.cancel(&id("a#1"), 5), None);
    dispatch.record(&record("a#1", 1, State::Queued));
    let ended = Action::Record { job: id("a#1"), body: cancelled() };
    assert_eq!(dispatch.cancel(&id("a#1"), 5), Some(vec![ended]));
    assert_eq!(dispatch.cancel(&id("a#1"), 5), Some(vec![]), "a repeat is harmless");

    dispatch.record(&record("b#1", 2, State::Running));
    assert_eq!(dispatch.cancel(&id("b#1"), 5), Some(vec![]), "the agent is away");
    let told = Action::Cancel { job: id("b#1"), grace_ms: 5 };
    assert_eq!(dispatch.agent_up("x", 4, &held(&["b#1"])), std::slice::from_ref(&told));
    assert_eq!(dispatch.cancel(&id("b#1"), 9), Some(vec![Action::Cancel { job: id("b#1"), grace_ms: 9 }]));
}
