//! Tests of the sentence that describes a job's health.

use common::job::Runner;

use super::super::samples;
use super::*;

fn health_text(record: &JobRecord, second: i64) -> String {
    health(record, &samples::view(second)).to_string()
}

/// Returns a running job with a step of this kind, which has no parent.
fn running_step(kind: StepKind, limit_ms: Option<u64>) -> JobRecord {
    let mut record = samples::running_record();
    if let Some(step) = &mut record.step {
        (step.kind, step.limit_ms) = (kind, limit_ms);
    }
    record
}

#[test]
fn a_job_within_its_limits_is_healthy() {
    let model = running_step(StepKind::Model, Some(600_000));
    let sentences = [
        health_text(&samples::starting_record(), 2),
        health_text(&samples::running_record(), 73),
        health_text(&model, 22),
        health_text(&model, 730),
        health_text(&running_step(StepKind::Tool, None), 73),
    ];
    insta::assert_snapshot!(sentences.join("\n"), @r#"
    healthy: start 1.0s of 1m; next event expected within 59s
    healthy: install 1m03s of 10m; next event expected within 9m
    healthy: waiting for the model 12.0s of 10m; next event expected within 10m
    healthy: waiting for the model 12m00s; it is answering; it is ended after 10m without activity
    healthy: tool 1m03s, no limit
    "#);
}

#[test]
fn a_job_is_slow_after_half_of_a_limit_and_then_over() {
    let sentences =
        [health_text(&samples::running_record(), 400), health_text(&samples::running_record(), 700)];
    insta::assert_snapshot!(sentences.join("\n"), @r#"
    slow: install 6m30s of 10m; it ends or is ended within 4m; `relay extend abe#1 --step 10m` gives it more time
    over: install 11m30s, its limit was 10m: it is being ended (or its machine slept)
    "#);
}

#[test]
fn a_job_is_quiet_if_its_step_or_an_enclosing_step_makes_no_progress() {
    let mut record = samples::stalling_record();
    let of_step = health_text(&record, 160);
    record.warning = Some("step 3 makes no progress: make (pid 9): waiting in epoll_wait".into());
    let of_parent = health_text(&record, 1190);
    record.warning = Some("step 4 makes no progress: what has ended is no news".into());
    let of_ended_step = health_text(&record, 160);
    insta::assert_snapshot!([of_step, of_parent, of_ended_step].join("\n"), @r#"
    quiet: build 2m28s of 20m; step 5 made no progress at the last check (waiting on TCP 10.0.0.1:443 ESTABLISHED); it is ended within 18m
    quiet: build 19m38s of 20m; step 3 made no progress at the last check (waiting in epoll_wait); it is ended within 22s
    healthy: build 2m28s of 20m; next event expected within 18m
    "#);
}

#[test]
fn a_running_job_without_agent_or_relay_is_stale() {
    let mut view = samples::view(130);
    let without_agent = health_text(&samples::lost_link_record(), 73);
    view.relay = RelayState::Down;
    let without_relay = health(&samples::running_record(), &view).to_string();
    let queued = health(&samples::queued_record(), &view).to_string();
    insta::assert_snapshot!([without_agent, without_relay, queued].join("\n"), @r#"
    stale: the agent is disconnected; last event 40s ago; the work goes on, and the agent reconnects by itself
    stale: no relay is running; last event 2m ago; the work may go on; `relay up` starts a relay
    queued: no relay is running: `relay up` starts it
    "#);
}

#[test]
fn the_health_of_a_waiting_stopping_or_ended_job_names_what_is_next() {
    let mut stopping = samples::running_record();
    stopping.state = State::Stopping;
    let mut view = samples::view(60);
    view.queue.ready = vec!["first#1".parse().unwrap(), samples::queued_record().job];
    let mut shell = samples::completed_record();
    shell.runner = Runner::Shell;
    let sentences = [
        health(&samples::queued_record(), &view).to_string(),
        health_text(&stopping, 73),
        health_text(&samples::completed_record(), 731),
        health_text(&shell, 731),
        health_text(&samples::failed_record(), 731),
        health_text(&samples::cancelled_record(), 731),
    ];
    insta::assert_snapshot!(sentences.join("\n"), @r#"
    queued: 1 job ahead (4 of 4 slots busy)
    stopping: its processes are being ended
    ended: completed 2m ago; next: `relay resume abe#1 "…"`
    ended: completed 2m ago; next: `relay logs abe#1`
    ended: failed 2m ago (step_timeout); next: `relay explain abe#1`
    ended: cancelled 2m ago; next: `relay resume abe#1 "…"`
    "#);
}

#[test]
fn the_health_of_a_hostile_record_is_one_short_line() {
    let mut record = samples::hostile_record();
    for state in [State::Running, State::Stopping, State::Completed, State::Failed, State::Queued] {
        record.state = state;
        record.warning =
            Some(format!("step 102 makes no progress: waiting {}", "\u{1b}[2J\u{202e}\n".repeat(99)));
        let text = health_text(&record, 73);
        assert!(text.len() < 300 && text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
    }
}

#[test]
fn a_model_that_can_t_be_reached_is_not_healthy() {
    let mut record = running_step(StepKind::Model, Some(600_000));
    record.warning = Some("codex waits for the network (Connection failed): check that".into());
    let sentence = health_text(&record, 73);
    assert!(sentence.starts_with("quiet: the worker waits for the network 1m"), "{sentence}");
    assert!(sentence.contains("can't be reached; it is ended within"), "{sentence}");
}
