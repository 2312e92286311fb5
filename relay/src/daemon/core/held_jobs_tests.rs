//! Tests of jobs that are held: tables of inputs, and what happens to the jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use common::event::{EventBody, FailureKind, JobError};
use common::hold::{Hold, OnQuota};
use common::job::{Runner, StepKind};
use common::model_usage::{ModelProblem, ModelUsage};
use common::record::{JobRecord, State};
use common::step::Step;
use jiff::Timestamp;

use super::job_queue::GroupLimits;
use super::scheduler::Scheduler;
use super::tests::{Scene, agent_connected, found_record, id, record, request_filed};
use super::*;
use crate::engine_kind::EngineKind;
use crate::registry::requests::DaemonRequest;

/// Time of the first heartbeat.
const START: i64 = 1_764_352_800;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn codex_job(job: &str, state: State) -> JobRecord {
    let agent = (state != State::Queued).then_some("x");
    JobRecord { runner: Runner::Codex, on_quota: OnQuota::Wait, ..record(job, state, agent) }
}

/// A record whose Codex has reached a limit, as its agent reports it; the gateway says when the limit ends.
fn held_job(job: &str, resets_at: Option<i64>) -> JobRecord {
    let (kind, message) = (FailureKind::UsageLimit, "used up".to_owned());
    let problem = ModelProblem { kind, message: message.clone(), resets_at: resets_at.map(at) };
    let hold = Hold { kind, message, until: None, next_try_at: None };
    JobRecord { held: Some(hold), model_problem: Some(problem), ..codex_job(job, State::Running) }
}

/// The record of such a job after it was let go on.
fn continued_job(job: &str) -> JobRecord {
    JobRecord { held: None, ..held_job(job, None) }
}

/// A scene with a connected agent that has three slots, and the job `a#1` running there.
fn scene() -> Scene {
    let mut scene = Scene::with_settings(EngineKind::Local, false);
    let active = vec![codex_job("a#1", State::Running)];
    scene.core.handle(Input::RegistryOpened(active), scene.now);
    scene.core.handle(Input::Heartbeat(at(0)), scene.now);
    scene.core.handle(with_slots(agent_connected("x", 1, &["a#1"])), scene.now);
    scene
}

/// Gives a connecting agent three slots.
fn with_slots(mut connected: Input) -> Input {
    if let Input::Connected(connection) = &mut connected {
        connection.hello.max_jobs = 3;
    }
    connected
}

/// Passes an input on, and returns what happens to jobs, one word each.
fn jobs_after(scene: &mut Scene, input: Input) -> Vec<String> {
    let effects = scene.core.handle(input, scene.now);
    let describe = |effect: Effect| match effect {
        Effect::Offer { job, .. } => Some(format!("offer {job}")),
        Effect::Send { frame, .. } => Some(format!("{frame:?}")),
        Effect::Record { job, body: EventBody::Held { hold: None } } => Some(format!("free {job}")),
        Effect::Record { job, body: EventBody::Held { hold: Some(hold) } } => {
            let next = hold.next_try_at.map(|at| at.as_second() - START);
            Some(format!("hold {job} {next:?}"))
        }
        _ => None,
    };
    effects.into_iter().filter_map(describe).collect()
}

fn changed(record: JobRecord) -> Input {
    Input::RecordsChanged(BTreeMap::from([(record.job.clone(), record)]))
}

#[test]
fn queued_codex_jobs_wait_until_the_limit_ends_and_shell_jobs_go_on() {
    let mut scene = scene();
    assert_eq!(jobs_after(&mut scene, changed(held_job("a#1", Some(60)))), ["hold a#1 Some(61)"]);
    assert_eq!(scene.core.deadline(), Some(scene.now + Duration::from_secs(61)));
    let queued = |job| found_record(codex_job(job, State::Queued));
    assert_eq!(jobs_after(&mut scene, queued("b#1")), ["hold b#1 Some(61)"]);
    assert_eq!(jobs_after(&mut scene, found_record(record("s#1", State::Queued, None))), ["offer s#1"]);
    let at_once = JobRecord { on_quota: OnQuota::Fail, ..codex_job("f#1", State::Queued) };
    assert_eq!(jobs_after(&mut scene, found_record(at_once)), ["offer f#1"]);
    scene.advance(Duration::from_secs(60));
    assert_eq!(jobs_after(&mut scene, Input::Tick), [""; 0]);
    scene.core.handle(
        changed(JobRecord { state: State::Completed, ..record("s#1", State::Completed, Some("x")) }),
        scene.now,
    );
    scene.advance(Duration::from_secs(1));
    let freed = jobs_after(&mut scene, Input::Tick);
    assert_eq!(freed, ["Continue { a#1 }", "offer b#1"]);
    assert_eq!(scene.core.hold_check_at, None);
}

#[test]
fn a_queued_job_without_a_slot_is_freed_with_an_event() {
    let mut scene = scene();
    for job in ["r#1", "r#2"] {
        jobs_after(&mut scene, found_record(record(job, State::Queued, None)));
    }
    jobs_after(&mut scene, changed(held_job("a#1", Some(60))));
    jobs_after(&mut scene, found_record(codex_job("b#1", State::Queued)));
    scene.advance(Duration::from_secs(61));
    assert_eq!(jobs_after(&mut scene, Input::Tick), ["Continue { a#1 }", "free b#1"]);
}

#[test]
fn one_job_tries_while_the_end_of_the_limit_is_not_known() {
    let mut scene = scene();
    jobs_after(&mut scene, found_record(codex_job("b#1", State::Queued)));
    jobs_after(&mut scene, changed(codex_job("b#1", State::Running)));
    assert_eq!(jobs_after(&mut scene, changed(held_job("a#1", None))), ["hold a#1 Some(300)"]);
    assert_eq!(jobs_after(&mut scene, changed(held_job("b#1", None))), ["hold b#1 Some(300)"]);
    jobs_after(&mut scene, found_record(codex_job("c#1", State::Queued)));
    scene.advance(Duration::from_secs(300));
    // The job that has reported the limit does not try first.
    let tried = jobs_after(&mut scene, Input::Tick);
    assert_eq!(tried, ["hold a#1 Some(600)", "Continue { b#1 }", "hold c#1 Some(600)"]);
    jobs_after(&mut scene, changed(continued_job("b#1")));
    scene.advance(Duration::from_secs(10));
    // The limit has not ended: the pause doubles.
    let failed = jobs_after(&mut scene, changed(held_job("b#1", None)));
    assert_eq!(failed, ["hold a#1 Some(910)", "hold b#1 Some(910)", "hold c#1 Some(910)"]);
    scene.advance(Duration::from_secs(600));
    let tried = jobs_after(&mut scene, Input::Tick);
    assert_eq!(tried, ["hold a#1 Some(1210)", "hold b#1 Some(1210)", "offer c#1"]);
    let step = Step::new_active(at(911), 3, StepKind::Test, "true".to_owned(), None, None);
    let works = JobRecord { steps: vec![step], ..codex_job("c#1", State::Running) };
    assert_eq!(jobs_after(&mut scene, changed(works)), ["Continue { a#1 }", "Continue { b#1 }"]);
    // Without a new answer of the model's server, the disproved report holds no other job again.
    for job in ["a#1", "b#1"] {
        jobs_after(&mut scene, changed(continued_job(job)));
    }
    assert_eq!(jobs_after(&mut scene, changed(held_job("a#1", None))), ["hold a#1 Some(1210)"]);
    scene.advance(Duration::from_secs(290));
    assert_eq!(jobs_after(&mut scene, Input::Tick), [""; 0]);
    scene.advance(Duration::from_secs(10));
    assert_eq!(jobs_after(&mut scene, Input::Tick), ["Continue { a#1 }"]);
}

#[test]
fn with_the_gateway_a_limit_that_only_codex_reports_holds_its_own_job_alone() {
    let mut scene = scene();
    scene.core.scheduler.has_gateway = true;
    let mut claim = JobRecord { model_problem: None, ..held_job("a#1", None) };
    claim.held.as_mut().unwrap().until = Some(at(1_000_000));
    assert_eq!(jobs_after(&mut scene, changed(claim.clone())), ["hold a#1 Some(300)"]);
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("b#1", State::Queued))), ["offer b#1"]);
    scene.advance(Duration::from_secs(300));
    assert_eq!(jobs_after(&mut scene, Input::Tick), ["Continue { a#1 }"]);
    jobs_after(&mut scene, changed(codex_job("a#1", State::Running)));
    assert_eq!(jobs_after(&mut scene, changed(claim.clone())), ["hold a#1 Some(900)"]);
    // A relay that is restarted meanwhile holds no other job either.
    let mut later = Scene::with_settings(EngineKind::Local, false);
    later.core.scheduler.has_gateway = true;
    let recorded = Hold { next_try_at: Some(at(900)), ..claim.held.clone().unwrap() };
    let queued = codex_job("q#1", State::Queued);
    let active = vec![JobRecord { held: Some(recorded), ..claim.clone() }, queued];
    later.core.handle(Input::Heartbeat(at(400)), later.now);
    later.core.handle(Input::RegistryOpened(active), later.now);
    let mut connected = agent_connected("x", 1, &["a#1"]);
    if let Input::Connected(connection) = &mut connected {
        connection.hello.max_jobs = 2;
    }
    assert_eq!(jobs_after(&mut later, connected), ["offer q#1"]);
    later.advance(Duration::from_secs(500));
    assert_eq!(jobs_after(&mut later, Input::Tick), ["Continue { a#1 }"]);
    // Once the relay has seen the answer itself, the queue is held.
    assert_eq!(jobs_after(&mut scene, changed(held_job("a#1", Some(960)))), ["hold a#1 Some(961)"]);
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("c#1", State::Queued))), ["hold c#1 Some(961)"]);
    let ended = JobError { kind: FailureKind::UsageLimit, message: "forged".to_owned(), step: None };
    let mut last = self::scene();
    last.core.scheduler.has_gateway = true;
    last.core.handle(changed(JobRecord { error: Some(ended), ..codex_job("a#1", State::Failed) }), last.now);
    assert_eq!(jobs_after(&mut last, found_record(codex_job("d#1", State::Queued))), ["offer d#1"]);
}

#[test]
fn a_limit_that_fails_a_job_holds_those_that_wait_until_relay_up() {
    let mut scene = scene();
    let shared = refused_job("a#1");
    let own = JobRecord { model_problem: None, ..shared.clone() };
    // Credentials that the relay does not hold may be those of this job alone.
    scene.core.handle(changed(own), scene.now);
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("b#1", State::Queued))), ["offer b#1"]);
    let failed = JobRecord { job: id("b#1"), ..shared.clone() };
    scene.core.handle(changed(failed), scene.now);
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("c#1", State::Queued))), ["hold c#1 None"]);
    scene.advance(Duration::from_secs(1_000_000));
    assert_eq!(jobs_after(&mut scene, Input::Tick), [""; 0]);
    assert_eq!(jobs_after(&mut scene, request_filed(DaemonRequest::Up)), ["offer c#1"]);
    scene.core.handle(changed(JobRecord { job: id("c#1"), ..shared }), scene.now);
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("d#1", State::Queued))), ["hold d#1 None"]);
    assert_eq!(jobs_after(&mut scene, Input::CredentialsChanged), ["offer d#1"]);
}

/// A record of a job whose credentials the model's server has refused.
fn refused_job(job: &str) -> JobRecord {
    let (kind, message) = (FailureKind::Auth, "refused".to_owned());
    let problem = ModelProblem { kind, message: message.clone(), resets_at: None };
    let error = Some(JobError { kind, message, step: None });
    JobRecord { error, model_problem: Some(problem), ..codex_job(job, State::Failed) }
}

fn disconnected(number: ConnectionNumber) -> Input {
    let connection_id = ConnectionId { agent: "x".into(), number };
    Input::Disconnected { connection_id, reason: "it was cut".to_owned() }
}

#[test]
fn an_answer_of_the_model_or_the_end_of_the_problem_ends_a_hold_for_credentials() {
    let mut scene = scene();
    scene.core.handle(found_record(codex_job("r#1", State::Queued)), scene.now);
    scene.core.handle(changed(codex_job("r#1", State::Running)), scene.now);
    scene.core.handle(changed(refused_job("a#1")), scene.now);
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("b#1", State::Queued))), ["hold b#1 None"]);
    let answered = |answers| {
        let model_usage = Some(ModelUsage { answers, ..ModelUsage::default() });
        JobRecord { model_usage, ..codex_job("r#1", State::Running) }
    };
    assert_eq!(jobs_after(&mut scene, changed(answered(1))), ["offer b#1"]);
    scene.core.handle(changed(refused_job("b#1")), scene.now);
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("c#1", State::Queued))), ["hold c#1 None"]);
    assert_eq!(jobs_after(&mut scene, changed(answered(1))), [""; 0]);
    assert_eq!(jobs_after(&mut scene, Input::ModelChecked(Some("refused".to_owned()))), [""; 0]);
    assert_eq!(jobs_after(&mut scene, Input::ModelChecked(None)), ["offer c#1"]);
}

#[test]
fn limits_of_command_lines_and_holds_of_an_earlier_relay_for_credentials_hold_nothing() {
    let mut scene = scene();
    let command_line = |record| JobRecord { runner: Runner::Shell, ..record };
    let limited = held_job("a#1", Some(60));
    let failed = JobRecord { held: None, error: refused_job("a#1").error, ..limited.clone() };
    assert_eq!(jobs_after(&mut scene, changed(command_line(limited)))[..], ["Continue { a#1 }"]);
    scene.core.handle(changed(command_line(JobRecord { state: State::Failed, ..failed })), scene.now);
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("b#1", State::Queued))), ["offer b#1"]);
    let mut later = Scene::with_settings(EngineKind::Local, false);
    let hold =
        Hold { kind: FailureKind::Auth, message: "refused".to_owned(), until: None, next_try_at: None };
    let recorded = JobRecord { held: Some(hold), ..codex_job("c#1", State::Queued) };
    assert_eq!(jobs_after(&mut later, Input::RegistryOpened(vec![recorded])), ["free c#1"]);
    assert_eq!(jobs_after(&mut later, agent_connected("x", 1, &[])), ["offer c#1"]);
}

#[test]
fn a_recorded_hold_of_a_command_line_holds_no_other_job() {
    for has_gateway in [false, true] {
        let mut scene = Scene::with_settings(EngineKind::Local, false);
        scene.core.scheduler.has_gateway = has_gateway;
        scene.core.handle(Input::Heartbeat(at(0)), scene.now);
        let command_line = JobRecord { runner: Runner::Shell, ..held_job("s#1", Some(60)) };
        let active = vec![command_line, codex_job("b#1", State::Queued)];
        assert_eq!(jobs_after(&mut scene, Input::RegistryOpened(active)), [""; 0]);
        let connected = with_slots(agent_connected("x", 1, &["s#1"]));
        assert_eq!(jobs_after(&mut scene, connected), ["offer b#1", "Continue { s#1 }"]);
    }
}

#[test]
fn a_job_that_pauses_in_the_first_record_of_its_run_goes_on() {
    let mut scene = scene();
    scene.core.scheduler.has_gateway = true;
    jobs_after(&mut scene, changed(held_job("a#1", Some(60))));
    jobs_after(&mut scene, found_record(codex_job("b#1", State::Queued)));
    jobs_after(&mut scene, found_record(record("s#1", State::Queued, None)));
    let command_line = JobRecord { runner: Runner::Shell, ..held_job("s#1", None) };
    assert_eq!(jobs_after(&mut scene, changed(command_line)), ["Continue { s#1 }"]);
    scene.advance(Duration::from_secs(61));
    assert_eq!(jobs_after(&mut scene, Input::Tick), ["Continue { a#1 }", "offer b#1"]);
    jobs_after(&mut scene, changed(JobRecord { held: None, ..held_job("a#1", Some(60)) }));
    // The agent accepted the job and its Codex reached a limit before the relay saw a record of the run.
    let paused = JobRecord { model_problem: None, ..held_job("b#1", None) };
    assert_eq!(jobs_after(&mut scene, changed(paused)), ["hold b#1 Some(361)"]);
    scene.advance(Duration::from_secs(300));
    assert_eq!(jobs_after(&mut scene, Input::Tick), ["Continue { b#1 }"]);
}

#[test]
fn a_job_whose_agent_is_away_does_not_try_and_one_that_does_not_begin_is_replaced() {
    let mut scene = scene();
    for job in ["b#1", "c#1"] {
        scene.core.handle(found_record(codex_job(job, State::Queued)), scene.now);
        scene.core.handle(changed(codex_job(job, State::Running)), scene.now);
    }
    for job in ["a#1", "b#1", "c#1"] {
        scene.core.handle(changed(held_job(job, None)), scene.now);
    }
    let all = ["a#1", "b#1", "c#1"];
    scene.core.handle(disconnected(1), scene.now);
    scene.advance(Duration::from_secs(300));
    assert_eq!(jobs_after(&mut scene, Input::Tick), [""; 0]);
    assert_eq!(scene.core.deadline(), Some(scene.now + Duration::from_secs(5)));
    assert_eq!(jobs_after(&mut scene, agent_connected("x", 2, &all)), [""; 0]);
    scene.advance(Duration::from_secs(5));
    // The job that has reported the limit does not try first.
    for job in ["b#1", "c#1", "a#1", "b#1"] {
        let tried = jobs_after(&mut scene, Input::Tick);
        assert!(tried.contains(&format!("Continue {{ {job} }}")), "{tried:?}");
        scene.advance(Duration::from_secs(300));
    }
}

#[test]
fn a_queued_job_of_a_full_group_does_not_try() {
    let mut scene = scene();
    let limits = GroupLimits::from([("g".parse().unwrap(), 1)]);
    scene.core.scheduler = Scheduler::new(limits, false);
    scene.core.handle(with_slots(agent_connected("x", 2, &[])), scene.now);
    let grouped = |record| JobRecord { group: Some("g".parse().unwrap()), ..record };
    scene.core.handle(found_record(grouped(record("s#1", State::Queued, None))), scene.now);
    scene.core.handle(found_record(codex_job("r#1", State::Queued)), scene.now);
    scene.core.handle(changed(held_job("r#1", None)), scene.now);
    for queued in [grouped(codex_job("b#1", State::Queued)), codex_job("c#1", State::Queued)] {
        scene.core.handle(found_record(queued), scene.now);
    }
    scene.core.handle(changed(codex_job("r#1", State::Cancelled)), scene.now);
    scene.advance(Duration::from_secs(300));
    assert_eq!(jobs_after(&mut scene, Input::Tick)[0], "offer c#1");
}

#[test]
fn a_used_up_budget_of_the_day_holds_the_queue_until_midnight_whoever_asks() {
    let mut scene = scene();
    let (kind, message) = (FailureKind::BudgetExceeded, "used up".to_owned());
    let hold = Hold { kind, message, until: Some(at(60)), next_try_at: Some(at(60)) };
    jobs_after(&mut scene, Input::DayBudget(Some(hold.clone())));
    assert_eq!(jobs_after(&mut scene, found_record(codex_job("b#1", State::Queued))), ["hold b#1 Some(60)"]);
    assert_eq!(jobs_after(&mut scene, request_filed(DaemonRequest::Up)), [""; 0]);
    assert_eq!(jobs_after(&mut scene, Input::CredentialsChanged), [""; 0]);
    scene.advance(Duration::from_secs(60));
    assert_eq!(jobs_after(&mut scene, Input::Tick), ["offer b#1"]);
    // A new relay asks its meter again.
    let recorded = JobRecord { held: Some(hold), ..codex_job("c#1", State::Queued) };
    let mut later = Scene::with_settings(EngineKind::Local, false);
    later.core.handle(Input::RegistryOpened(vec![recorded]), later.now);
    assert_eq!(jobs_after(&mut later, agent_connected("x", 1, &[])), ["offer c#1"]);
}

#[test]
fn a_new_relay_goes_on_with_the_recorded_hold() {
    let mut scene = Scene::with_settings(EngineKind::Local, false);
    let (kind, message) = (FailureKind::UsageLimit, "used up".to_owned());
    let hold = Hold { kind, message, until: Some(at(60)), next_try_at: Some(at(61)) };
    let recorded = |job, state| JobRecord { held: Some(hold.clone()), ..codex_job(job, state) };
    scene.core.handle(Input::Heartbeat(at(0)), scene.now);
    let active = vec![recorded("a#1", State::Running), recorded("b#1", State::Queued)];
    assert_eq!(jobs_after(&mut scene, Input::RegistryOpened(active)), [""; 0]);
    let mut connected = agent_connected("x", 1, &["a#1"]);
    if let Input::Connected(connection) = &mut connected {
        connection.hello.max_jobs = 2;
    }
    assert_eq!(jobs_after(&mut scene, connected), [""; 0]);
    scene.core.handle(
        Input::Disconnected {
            connection_id: ConnectionId { agent: "x".into(), number: 1 },
            reason: "it was cut".to_owned(),
        },
        scene.now,
    );
    // The agent is told when it is back.
    scene.advance(Duration::from_secs(61));
    assert_eq!(jobs_after(&mut scene, Input::Tick), ["free b#1"]);
    let back = jobs_after(&mut scene, agent_connected("x", 2, &["a#1"]));
    assert_eq!(back, ["Continue { a#1 }"]);
}
