//! Output of `relay status JOB`, one state per test.

use common::event::StepOutcome;
use common::record::JobRecord;
use common::vitals::{MachineVitals, Space};

use super::super::{Paint, RelayState, samples};
use super::*;

fn show(record: &JobRecord, second: i64) -> String {
    render_status(record, &samples::view(second))
}

#[test]
fn a_queued_job_says_why_it_waits() {
    let mut view = samples::view(3);
    view.queue.ready = ["a#1", "a#2", "abe#1"].map(|job| job.parse().unwrap()).into();
    insta::assert_snapshot!(render_status(&samples::queued(), &view), @r#"
    abe#1 queued for 3.0s
    task       fix the tests
    workspace  /home/u/work/abe (engine docker)
    times      launched 03:04:05, last event 03:04:05 (3s ago)
    waits      2 jobs ahead (4 of 4 slots busy)
    log        /r/abe.1.log
    "#);
}

#[test]
fn a_starting_job() {
    insta::assert_snapshot!(show(&samples::starting(), 2), @r#"
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
fn a_running_job_tells_its_step_and_its_health() {
    insta::assert_snapshot!(show(&samples::running(), 73), @r#"
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
fn a_step_inside_another_names_it_and_its_stall_is_seen() {
    insta::assert_snapshot!(show(&samples::supervised(), 160), @r#"
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
    let text = show(&samples::supervised(), 1190);
    assert!(
        text.contains("quiet: build 19m38s of 20m; step 5 made no progress")
            && text.contains("it is ended within 22s"),
        "{text}"
    );
}

#[test]
fn an_ended_job_shows_what_its_steps_used_and_which_were_in_which() {
    let record = JobRecord::rebuild(&samples::stalled_job_events()).unwrap();
    insta::assert_snapshot!(show(&record, 200), @r#"
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
fn a_step_that_was_quiet_and_moved_on_is_no_longer_warned_of() {
    let mut record = samples::supervised();
    let at = record.steps.iter().position(|step| step.n == 5).unwrap();
    let mut after = |outcome, parent| {
        record.step = None;
        (record.steps[at].outcome, record.steps[at].parent) = (outcome, parent);
        show(&record, 200).contains("makes no progress")
    };
    assert!(!after(Some(StepOutcome::Ok), None));
    assert!(!after(Some(StepOutcome::Unknown), Some(3)));
    assert!(after(Some(StepOutcome::Unknown), None) && after(Some(StepOutcome::Failed), Some(3)));
    assert!(after(None, Some(3)), "it runs");
    record.warning = Some("git could not be asked what has changed".into());
    assert!(show(&record, 200).contains("git could not be asked"));
}

#[test]
fn a_job_that_completed_with_warnings_says_so_and_shows_the_newest() {
    let text = show(&samples::warned(), 700);
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
fn a_step_beyond_its_limit_is_no_longer_called_healthy() {
    let text = show(&samples::running(), 700);
    assert!(text.contains("over: install 11m30s, its limit was 10m") && !text.contains("healthy"), "{text}");
}

#[test]
fn a_lost_link_says_how_stale_the_record_is() {
    insta::assert_snapshot!(show(&samples::link_lost(), 73), @r#"
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
fn without_a_relay_nothing_is_claimed_about_now() {
    let mut view = samples::view(130);
    view.relay = RelayState::Down;
    insta::assert_snapshot!(render_status(&samples::running(), &view), @r#"
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
    assert!(!render_status(&samples::completed(), &view).contains("relay:"));
}

#[test]
fn a_completed_job() {
    insta::assert_snapshot!(show(&samples::completed(), 731), @r#"
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
fn a_job_that_stalled_or_ran_out_of_memory_says_what_the_machine_had() {
    let space = |total: u64, available: u64| Some(Space { total: total << 20, available: available << 20 });
    let vitals = MachineVitals { cores: 2, memory: space(8192, 120), ..MachineVitals::default() };
    let row = "\nmachine    the machine had 120 MiB of 8 GiB memory free, load 0.00 on 2 cores\n";
    let mut record = samples::failed();
    record.vitals = Some(vitals);
    for (kind, told) in [
        (FailureKind::OomKilled, true),
        (FailureKind::Stalled, true),
        // The step stalled at some time before.
        (FailureKind::StepTimeout, false),
    ] {
        record.error.as_mut().unwrap().kind = kind;
        assert_eq!(show(&record, 731).contains(row), told, "{kind:?}");
    }
    let mut record = samples::running();
    record.vitals = Some(vitals);
    assert!(!show(&record, 73).contains(row), "it goes on");
    record.warning = Some("step 3 makes no progress: node idle".to_owned());
    assert!(show(&record, 73).contains(row), "{}", show(&record, 73));
}

#[test]
fn a_failed_or_cancelled_job_differs_in_its_outcome_and_in_what_is_next() {
    let completed = show(&samples::completed(), 731);
    let like = |state: &str, step: &str, outcome: &str| {
        let text = completed.replace("abe#1 completed", state).replace("3 install 10m00s ok", step);
        let (before, rest) = text.split_once("exit code").unwrap();
        format!("{before}{outcome}\n{}", rest.split_once("\"…\"`\n").unwrap().1)
    };
    let error = "error      step_timeout in step 3: install `npm ci` ran for 10m, its limit: raise it with \
                 --step-timeout install=20m\nnext       `relay explain abe#1`";
    let failed = like("abe#1 failed", "3 install 10m00s killed", error);
    similar_asserts::assert_eq!(show(&samples::failed(), 731), failed);
    let cancelled = like("abe#1 cancelled", "3 install 10m00s ok", "next       `relay resume abe#1 \"…\"`");
    similar_asserts::assert_eq!(show(&samples::cancelled(), 731), cancelled);
}

#[test]
fn a_hostile_record_takes_thirty_short_lines_and_no_control_characters() {
    let mut record = samples::hostile();
    let mut view = samples::view(73);
    for down in [false, true] {
        for state in [State::Running, State::Stopping, State::Completed, State::Failed, State::Queued] {
            record.state = state;
            if down {
                view.relay = RelayState::Down;
            }
            let text = render_status(&record, &view);
            assert!(text.lines().count() <= 30, "{text}");
            assert!(text.lines().all(|line| line.len() <= MAX_ROW + 40), "{text}");
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            assert!(!text.contains('\u{202e}'));
        }
    }
}

#[test]
fn colour_is_there_when_wanted_and_only_then() {
    let mut view = samples::view(731);
    assert!(!render_status(&samples::failed(), &view).contains('\u{1b}'));
    view.paint = Paint::new(true);
    assert!(render_status(&samples::failed(), &view).contains("\u{1b}[31mfailed after 10m10s\u{1b}[0m"));
}
