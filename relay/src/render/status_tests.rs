//! Tests of the output of `relay status JOB`, one for each state of a job.

use common::event::StepOutcome;
use common::record::JobRecord;
use common::vitals::{MachineVitals, Space};

use super::super::{Paint, RelayState, samples};
use super::*;

fn status_text(record: &JobRecord, second: i64) -> String {
    render_status(record, &samples::view(second))
}

#[test]
fn a_queued_job_says_why_it_waits() {
    let mut view = samples::view(3);
    view.queue.ready = ["a#1", "a#2", "abe#1"].map(|job| job.parse().unwrap()).into();
    insta::assert_snapshot!(render_status(&samples::queued_record(), &view), @r#"
    abe#1 queued for 3.0s
    task       fix the tests
    workspace  /home/u/work/abe (engine docker)
    times      launched 03:04:05, last event 03:04:05 (3s ago)
    waits      2 jobs ahead (4 of 4 slots busy)
    log        /r/abe.1.log
    "#);
}

#[test]
fn a_starting_job_shows_its_start_step() {
    insta::assert_snapshot!(status_text(&samples::starting_record(), 2), @r#"
    abe#1 starting for 1.0s
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, last event 03:04:06 (1s ago)
    link       connected
    step       1 start 1.0s of 1m: codex
    health     healthy: start 1.0s of 1m; next event expected within 59s
    log        /r/abe.1.log
    "#);
}

#[test]
fn a_running_job_shows_its_step_and_its_health() {
    insta::assert_snapshot!(status_text(&samples::running_record(), 73), @r#"
    abe#1 running for 1m12s
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, last event 03:04:15 (1m ago)
    link       connected
    step       3 install 1m03s of 10m: npm ci
    health     healthy: install 1m03s of 10m; next event expected within 9m
    steps      1 start 0.9s ok: codex
               2 clone 5.0s ok: git clone https://example.org/abe
    plan       1 of 2 done, next: fix
    said       The clone is there.
               Now the packages.
    thread     0199-t
    log        /r/abe.1.log
    "#);
}

#[test]
fn a_sub_step_shows_its_parent_and_its_stall_makes_the_job_quiet() {
    insta::assert_snapshot!(status_text(&samples::stalling_record(), 160), @r#"
    abe#1 running for 2m39s
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, last event 03:06:35 (10s ago)
    link       connected
    step       5 install 2m20s of 20m: npm ci (in build: make setup)
    health     quiet: build 2m28s of 20m; step 5 made no progress at the last check (waiting on TCP 10.0.0.1:443 ESTABLISHED); it is ended within 18m
    steps      1 start 0.9s ok: codex
               4 fetch 5.0s ended, cpu 0.3s, 12 MiB: curl -fsSL https://example.org/tool
    warning    step 5 makes no progress: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED
    thread     0199-t
    log        /r/abe.1.log
    "#);
    // The enclosing step has the nearer limit.
    let text = status_text(&samples::stalling_record(), 1190);
    assert!(
        text.contains("quiet: build 19m38s of 20m; step 5 made no progress")
            && text.contains("it is ended within 22s"),
        "{text}"
    );
}

#[test]
fn an_ended_job_shows_the_resources_and_the_nesting_of_its_steps() {
    let record = JobRecord::rebuild(&samples::stalled_job_events()).unwrap();
    insta::assert_snapshot!(status_text(&record, 200), @r#"
    abe#1 failed after 2m31s (48s ago)
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, ended 03:06:37
    steps      1 start 0.9s ok: codex
               3 build 2m20s killed, cpu 12.8s, 250 MiB: make setup
                 4 fetch 5.0s ended, cpu 0.3s, 12 MiB: curl -fsSL https://example.org/tool
                 5 install 2m12s killed, cpu 12.3s, 240 MiB: npm ci
    warning    step 5 makes no progress: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED
    error      stalled: step 5 (install: npm ci) made no progress for 2m: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED
    next       `relay explain abe#1`
    thread     0199-t
    cleanup    3 processes killed, 0 left
    log        /r/abe.1.log
    "#);
    assert!(!summary_text(&record).contains("still running when the worker ended"));
}

#[test]
fn the_warning_about_a_stall_disappears_once_the_step_has_ended_well() {
    let mut record = samples::stalling_record();
    let index = record.steps.iter().position(|step| step.n == 5).unwrap();
    let mut shows_stall_after = |outcome, parent| {
        record.step = None;
        (record.steps[index].outcome, record.steps[index].parent) = (outcome, parent);
        status_text(&record, 200).contains("makes no progress")
    };
    assert!(!shows_stall_after(Some(StepOutcome::Ok), None));
    assert!(!shows_stall_after(Some(StepOutcome::Unknown), Some(3)));
    assert!(
        shows_stall_after(Some(StepOutcome::Unknown), None)
            && shows_stall_after(Some(StepOutcome::Failed), Some(3))
    );
    assert!(shows_stall_after(None, Some(3)), "it runs");
    record.warning = Some("git could not be asked what has changed".into());
    assert!(status_text(&record, 200).contains("git could not be asked"));
}

#[test]
fn a_job_that_completed_with_warnings_says_so_and_shows_the_newest() {
    let text = status_text(&samples::record_with_warnings(), 700);
    assert!(text.starts_with("abe#1 completed with 4 warnings after 10m10s ("), "{text}");
    insta::assert_snapshot!(text[text.find("said").unwrap()..text.find("exit code").unwrap()].to_owned(), @r#"
    said       The clone is there.
               Now the packages.
    warning    3 lines of codex 0.180.0 not understood
               no progress: the same step failed 10 times: make
               still running when the worker's turn ended, and ended with it: cargo build
    "#);
    assert!(text.contains("check the warnings, then `relay resume abe#1"), "{text}");
}

#[test]
fn a_job_with_a_step_over_its_limit_is_not_healthy() {
    let text = status_text(&samples::running_record(), 700);
    assert!(text.contains("over: install 11m30s, its limit was 10m") && !text.contains("healthy"), "{text}");
}

#[test]
fn a_lost_link_says_how_stale_the_record_is() {
    insta::assert_snapshot!(status_text(&samples::lost_link_record(), 73), @r#"
    abe#1 running for 1m12s
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, last event 03:04:38 (40s ago)
    link       lost: last event 40s ago
    step       3 install since 03:04:15: npm ci
    health     stale: the agent is disconnected; last event 40s ago; the work goes on, and the agent reconnects by itself
    steps      1 start 0.9s ok: codex
               2 clone 5.0s ok: git clone https://example.org/abe
    plan       1 of 2 done, next: fix
    said       The clone is there.
               Now the packages.
    thread     0199-t
    log        /r/abe.1.log
    "#);
}

#[test]
fn without_a_relay_the_status_says_how_old_it_is() {
    let mut view = samples::view(130);
    view.relay = RelayState::Down;
    insta::assert_snapshot!(render_status(&samples::running_record(), &view), @r#"
    abe#1 running as of 2m ago
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, last event 03:04:15 (2m ago)
    step       3 install since 03:04:15: npm ci
    health     stale: no relay is running; last event 2m ago; the work may go on; `relay up` starts a relay
    steps      1 start 0.9s ok: codex
               2 clone 5.0s ok: git clone https://example.org/abe
    plan       1 of 2 done, next: fix
    said       The clone is there.
               Now the packages.
    thread     0199-t
    log        /r/abe.1.log
    "#);
    assert!(!render_status(&samples::completed_record(), &view).contains("relay:"));
}

#[test]
fn a_completed_job_shows_its_numbers_and_the_next_action() {
    insta::assert_snapshot!(status_text(&samples::completed_record(), 731), @r#"
    abe#1 completed after 10m10s (2m ago)
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, ended 03:14:16
    steps      1 start 0.9s ok: codex
               2 clone 5.0s ok: git clone https://example.org/abe
               3 install 10m00s ok: npm ci
    plan       1 of 2 done, next: fix
    said       The clone is there.
               Now the packages.
    exit code  0
    next       `relay resume abe#1 "…"`
    usage      1200 tokens in (0 cached), 50 out (0 reasoning)
    changes    3 files (+10 -2)
    thread     0199-t
    cleanup    2 processes killed, 0 left
    log        /r/abe.1.log
    "#);
}

#[test]
fn a_job_that_stalled_or_ran_out_of_memory_shows_the_machine_at_that_time() {
    let space = |total: u64, available: u64| Some(Space { total: total << 20, available: available << 20 });
    let vitals = MachineVitals { cores: 2, memory: space(8192, 120), ..MachineVitals::default() };
    let row = "\nmachine    the machine had 120 MiB of 8 GiB memory free, load 0.00 on 2 cores\n";
    let mut record = samples::failed_record();
    record.vitals = Some(vitals);
    for (kind, is_shown) in [
        (FailureKind::OomKilled, true),
        (FailureKind::Stalled, true),
        // The stall was before the step exceeded its limit.
        (FailureKind::StepTimeout, false),
    ] {
        record.error.as_mut().unwrap().kind = kind;
        assert_eq!(status_text(&record, 731).contains(row), is_shown, "{kind:?}");
    }
    let mut record = samples::running_record();
    record.vitals = Some(vitals);
    assert!(!status_text(&record, 73).contains(row), "it goes on");
    record.warning = Some("step 3 makes no progress: node idle".to_owned());
    assert!(status_text(&record, 73).contains(row), "{}", status_text(&record, 73));
}

#[test]
fn a_failed_or_cancelled_job_differs_in_its_outcome_and_the_next_action() {
    let completed = status_text(&samples::completed_record(), 731);
    let status_with = |state: &str, step: &str, outcome: &str| {
        let text = completed.replace("abe#1 completed", state).replace("3 install 10m00s ok", step);
        let (before, text_after) = text.split_once("exit code").unwrap();
        format!("{before}{outcome}\n{}", text_after.split_once("\"…\"`\n").unwrap().1)
    };
    let error = "error      step_timeout in step 3: install `npm ci` ran for 10m, its limit: raise it with \
                 --step-timeout install=20m\nnext       `relay explain abe#1`";
    let failed = status_with("abe#1 failed", "3 install 10m00s killed", error);
    similar_asserts::assert_eq!(status_text(&samples::failed_record(), 731), failed);
    let cancelled =
        status_with("abe#1 cancelled", "3 install 10m00s ok", "next       `relay resume abe#1 \"…\"`");
    similar_asserts::assert_eq!(status_text(&samples::cancelled_record(), 731), cancelled);
}

#[test]
fn a_hostile_record_is_shown_in_30_short_lines_without_control_characters() {
    let mut record = samples::hostile_record();
    let mut view = samples::view(73);
    for is_down in [false, true] {
        for state in [State::Running, State::Stopping, State::Completed, State::Failed, State::Queued] {
            record.state = state;
            if is_down {
                view.relay = RelayState::Down;
            }
            let text = render_status(&record, &view);
            assert!(text.lines().count() <= 30, "{text}");
            assert!(text.lines().all(|line| line.len() <= MAX_ROW_BYTES + 40), "{text}");
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            assert!(!text.contains('\u{202e}'));
        }
    }
}

#[test]
fn color_is_used_only_when_enabled() {
    let mut view = samples::view(731);
    assert!(!render_status(&samples::failed_record(), &view).contains('\u{1b}'));
    view.paint = Paint::new(true);
    assert!(
        render_status(&samples::failed_record(), &view).contains("\u{1b}[31mfailed after 10m10s\u{1b}[0m")
    );
}
