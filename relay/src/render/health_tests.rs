//! Health sentence of a job, one state per line.

use common::job::Runner;

use super::super::samples;
use super::*;

fn say(record: &JobRecord, second: i64) -> String {
    health(record, &samples::view(second)).to_string()
}

/// A running job with a step of this kind and no step around it.
fn at_step(kind: StepKind, limit_ms: Option<u64>) -> JobRecord {
    let mut record = samples::running();
    if let Some(step) = &mut record.step {
        (step.kind, step.limit_ms) = (kind, limit_ms);
    }
    record
}

#[test]
fn a_job_within_its_limits_needs_nothing() {
    let model = at_step(StepKind::Model, Some(600_000));
    let told = [
        say(&samples::starting(), 2),
        say(&samples::running(), 73),
        say(&model, 22),
        say(&model, 730),
        say(&at_step(StepKind::Tool, None), 73),
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
    healthy: start 1.0s of 1m; next event expected within 59s
    healthy: install 1m03s of 10m; next event expected within 9m
    healthy: waiting for the model 12.0s of 10m; next event expected within 10m
    healthy: waiting for the model 12m00s; it is answering; it is ended after 10m without activity
    healthy: tool 1m03s, no limit
    "#);
}

#[test]
fn a_step_that_takes_long_is_slow_then_over() {
    let told = [say(&samples::running(), 400), say(&samples::running(), 700)];
    insta::assert_snapshot!(told.join("\n"), @r#"
    slow: install 6m30s of 10m; it ends or is ended within 4m; `relay extend abe#1 --step 10m` gives it more time
    over: install 11m30s, its limit was 10m: it is being ended (or its machine slept)
    "#);
}

#[test]
fn a_step_without_progress_is_quiet_and_so_is_one_around_it() {
    let mut record = samples::supervised();
    let own = say(&record, 160);
    record.warning = Some("step 3 makes no progress: make (pid 9): waiting in epoll_wait".into());
    let around = say(&record, 1190);
    record.warning = Some("step 4 makes no progress: what has ended is no news".into());
    let other = say(&record, 160);
    insta::assert_snapshot!([own, around, other].join("\n"), @r#"
    quiet: build 2m28s of 20m; step 5 made no progress at the last check (waiting on TCP 10.0.0.1:443 ESTABLISHED); it is ended within 18m
    quiet: build 19m38s of 20m; step 3 made no progress at the last check (waiting in epoll_wait); it is ended within 22s
    healthy: build 2m28s of 20m; next event expected within 18m
    "#);
}

#[test]
fn what_is_not_heard_of_is_stale_whatever_its_step_says() {
    let mut view = samples::view(130);
    let lost = say(&samples::link_lost(), 73);
    view.relay = RelayState::Down;
    let down = health(&samples::running(), &view).to_string();
    let queued = health(&samples::queued(), &view).to_string();
    insta::assert_snapshot!([lost, down, queued].join("\n"), @r#"
    stale: the agent is disconnected; last event 40s ago; the work goes on, and the agent reconnects by itself
    stale: no relay is running; last event 2m ago; the work may go on; `relay up` starts a relay
    queued: no relay is running: `relay up` starts it
    "#);
}

#[test]
fn a_job_that_waits_ends_or_has_ended_says_what_is_next() {
    let mut stopping = samples::running();
    stopping.state = State::Stopping;
    let mut view = samples::view(60);
    view.queue.ready = vec!["first#1".parse().unwrap(), samples::queued().job];
    let mut shell = samples::completed();
    shell.runner = Runner::Shell;
    let told = [
        health(&samples::queued(), &view).to_string(),
        say(&stopping, 73),
        say(&samples::completed(), 731),
        say(&shell, 731),
        say(&samples::failed(), 731),
        say(&samples::cancelled(), 731),
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
    queued: 1 job ahead (4 of 4 slots busy)
    stopping: its processes are being ended
    ended: completed 2m ago; next: `relay resume abe#1 "…"`
    ended: completed 2m ago; next: `relay logs abe#1`
    ended: failed 2m ago (step_timeout); next: `relay explain abe#1`
    ended: cancelled 2m ago; next: `relay resume abe#1 "…"`
    "#);
}

#[test]
fn a_hostile_record_stays_one_short_line() {
    let mut record = samples::hostile();
    for state in [State::Running, State::Stopping, State::Completed, State::Failed, State::Queued] {
        record.state = state;
        record.warning =
            Some(format!("step 102 makes no progress: waiting {}", "\u{1b}[2J\u{202e}\n".repeat(99)));
        let text = say(&record, 73);
        assert!(text.len() < 300 && text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
    }
}

#[test]
fn a_model_that_can_t_be_reached_is_not_healthy() {
    let mut record = at_step(StepKind::Model, Some(600_000));
    record.warning = Some("codex waits for the network (Connection failed): check that".into());
    let said = say(&record, 73);
    assert!(said.starts_with("quiet: the worker waits for the network 1m"), "{said}");
    assert!(said.contains("can't be reached; it is ended within"), "{said}");
}
