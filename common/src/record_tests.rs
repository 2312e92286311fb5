//! Tests of the fold: each applies events to a record.

use super::*;
use crate::event::{Event, EventBody, FailureKind, JobError, StepOutcome};
use crate::event_line::{EventLine, Source};
use crate::job::StepKind;
use crate::wait_reason::WaitReason;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_323_045 + second).unwrap()
}

fn launched_record() -> JobRecord {
    let queued = Queued {
        workspace: "/home/u/abe".into(),
        prompt_summary: "fix the tests".into(),
        runner: Runner::Codex,
        engine: "docker".into(),
        log_path: "/r/abe.1.log".into(),
        events_path: "/r/abe.1.events.jsonl".into(),
        ..Queued::default()
    };
    JobRecord::from_queued("abe#1".parse().unwrap(), at(0), &queued)
}

fn apply_agent_events(record: &mut JobRecord, events: Vec<(i64, EventBody)>) {
    for (seq, (second, body)) in events.into_iter().enumerate() {
        record.apply_line(&EventLine {
            id: seq as u64 + 2,
            job: record.job.clone(),
            epoch: 1,
            seq: seq as u64 + 1,
            source: Source::Agent,
            event: Some(Event { at: at(second), body }),
        });
    }
}

#[test]
fn a_warning_about_the_model_is_over_when_the_model_answers() {
    let wait_started = |n| EventBody::StepStarted {
        n,
        kind: StepKind::Model,
        title: "model".into(),
        limit_ms: None,
        parent: None,
    };
    let wait_finished =
        |n, outcome| EventBody::StepFinished { n, outcome, exit_code: None, elapsed_ms: 1, resources: None };
    let warning = |message: &str| EventBody::Warning { message: message.into() };
    let warning_after_wait = |message: &str, outcome| {
        let mut record = launched_record();
        apply_agent_events(
            &mut record,
            vec![(1, wait_started(1)), (2, warning(message)), (3, wait_finished(1, outcome))],
        );
        record.warning
    };
    assert_eq!(warning_after_wait("codex waits for the network (Connection failed)", StepOutcome::Ok), None);
    assert_eq!(warning_after_wait("codex retries (1/5: 503)", StepOutcome::Ok), None);
    assert_eq!(
        warning_after_wait("codex retries (1/5: 503)", StepOutcome::Failed).as_deref(),
        Some("codex retries (1/5: 503)")
    );
    assert_eq!(warning_after_wait("the disk is full", StepOutcome::Ok).as_deref(), Some("the disk is full"));
}

#[test]
fn dangerous_characters_of_a_worker_s_message_are_escaped_in_the_record() {
    let mut record = launched_record();
    let message = "a\u{9b}31m\u{2028}b\u{202e}c";
    apply_agent_events(&mut record, vec![(1, EventBody::Message { text: message.to_owned() })]);
    let text = String::from_utf8(record.to_bytes().unwrap()).unwrap();
    assert!(text.contains(r#""message":"a\u009b31m\u2028b\u202ec""#), "{text}");
    assert_eq!(serde_json::from_str::<JobRecord>(&text).unwrap(), record);
}

#[test]
fn a_completed_job_names_the_warnings_that_are_still_valid() {
    let warning = |message: &str| EventBody::Warning { message: message.into() };
    let mut record = launched_record();
    apply_agent_events(
        &mut record,
        vec![
            (1, accepted()),
            (1, step_started(1, StepKind::Model, "waiting for the model")),
            (1, warning("codex retries (1/5: 503)")),
            (2, step_finished(1, StepOutcome::Ok, None, 900)),
            (2, step_started(2, StepKind::Install, "npm ci")),
            (3, EventBody::Interrupted { n: 2, reason: "it ran over its limit".into() }),
            (4, step_finished(2, StepOutcome::Killed, None, 900)),
            (4, step_started(3, StepKind::Test, "npm test")),
            (5, warning("step 3 (test: npm test) has used half of its limit of 1m")),
            (6, EventBody::Vitals(Box::new(MachineVitals { cores: 7, ..MachineVitals::default() }))),
            (6, EventBody::Stalled { n: 3, evidence: "0.0 % CPU".into() }),
        ],
    );
    assert_eq!(record.vitals.map(|vitals| vitals.cores), Some(7));
    assert_eq!(record.warning.as_deref(), Some("step 3 makes no progress: 0.0 % CPU"));
    assert_eq!((record.warnings.count, record.describe_outcome().as_str()), (1, "starting"));
    let parse_warning = "2 lines of codex not understood";
    apply_agent_events(
        &mut record,
        vec![
            (7, step_finished(3, StepOutcome::Ok, None, 900)),
            (8, warning(parse_warning)),
            (8, warning("the job has used half of its limit of 1m")),
            (9, warning(parse_warning)),
            (9, job_finished(FinalState::Completed, None)),
        ],
    );
    assert_eq!(record.describe_outcome(), "completed with 2 warnings");
    assert_eq!(record.warnings.newest, ["step 2 was interrupted: it ran over its limit", parse_warning]);
    assert_eq!(record.warning.as_deref(), Some(parse_warning), "the slow step has succeeded");
    insta::assert_snapshot!(record.summary.unwrap(), @r#"
    abe#1 completed with 2 warnings after 8.0s
    warning: step 2 was interrupted: it ran over its limit
    warning: 2 lines of codex not understood
    step 2 install 0.9s: npm ci (killed)
    step 3 test 0.9s: npm test
    log: /r/abe.1.log
    "#);
}

fn accepted() -> EventBody {
    EventBody::Accepted {
        agent: "a1".into(),
        isolation: Isolation::Container,
        workspace_log: Some(".codex-worker/log.txt".into()),
    }
}

fn step_started(n: u32, kind: StepKind, title: &str) -> EventBody {
    EventBody::StepStarted { n, kind, title: title.into(), limit_ms: Some(1000), parent: None }
}

fn step_finished(n: u32, outcome: StepOutcome, exit_code: Option<i32>, elapsed_ms: u64) -> EventBody {
    EventBody::StepFinished { n, outcome, exit_code, elapsed_ms, resources: None }
}

fn job_finished(state: FinalState, error: Option<JobError>) -> EventBody {
    EventBody::Finished { state, error, exit_code: Some(0), changes: None }
}

#[test]
fn a_job_that_completes_tells_its_steps_and_its_summary() {
    let mut record = launched_record();
    apply_agent_events(
        &mut record,
        vec![
            (1, accepted()),
            (1, step_started(1, StepKind::Start, "codex")),
            (2, EventBody::Started { pid: 7, thread_id: Some("t-1".into()) }),
            (2, step_finished(1, StepOutcome::Ok, None, 900)),
            (2, step_started(2, StepKind::Model, "waiting for the model")),
            (4, step_finished(2, StepOutcome::Ok, None, 2000)),
            (4, step_started(3, StepKind::Clone, "git clone x")),
            (9, step_finished(3, StepOutcome::Ok, Some(0), 5000)),
            (9, EventBody::Message { text: "All done.\nReally.".into() }),
            (9, EventBody::Usage(Usage { input_tokens: 100, output_tokens: 20, ..Usage::default() })),
            (10, EventBody::Cleanup { killed: 0, survivors: 0 }),
            (10, job_finished(FinalState::Completed, None)),
        ],
    );
    assert_eq!((record.state, record.seq, record.model_wait_ms), (State::Completed, 12, 2000));
    assert_eq!(record.steps.iter().map(|step| step.n).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(record.workspace_log.as_deref(), Some("/home/u/abe/.codex-worker/log.txt"));
    insta::assert_snapshot!(record.summary.unwrap());
}

#[test]
fn a_job_takes_at_least_as_long_as_its_steps() {
    let began = || step_started(1, StepKind::Start, "codex");
    let started = || EventBody::Started { pid: 7, thread_id: Some("t-1".into()) };
    let ended = |elapsed_ms| step_finished(1, StepOutcome::Ok, None, elapsed_ms);
    // Case, events with their seconds, second of the job's end, and the expected duration.
    let table = [
        ("the thread is slow", vec![(0, began()), (12, started()), (12, ended(12_000))], 13, "13.0s"),
        ("all is fast", vec![(0, began()), (0, started()), (0, ended(100))], 1, "1.0s"),
        ("the agent was slow to begin", vec![(30, began()), (30, started()), (31, ended(900))], 32, "2.0s"),
        ("no step was seen", vec![(3, started())], 5, "2.0s"),
        ("nothing began", vec![], 5, "5.0s"),
    ];
    for (case, events, end_second, expected) in table {
        let mut record = launched_record();
        let end = (end_second, job_finished(FinalState::Completed, None));
        apply_agent_events(&mut record, [vec![(0, accepted())], events, vec![end]].concat());
        let summary = record.summary.unwrap();
        assert!(summary.starts_with(&format!("abe#1 completed after {expected}")), "{case}: {summary}");
    }
}

#[test]
fn the_current_step_is_the_newest_that_has_not_ended() {
    let mut record = launched_record();
    apply_agent_events(
        &mut record,
        vec![
            (1, accepted()),
            (1, EventBody::Started { pid: 7, thread_id: None }),
            (2, step_started(1, StepKind::Command, "a")),
            (3, step_started(2, StepKind::Install, "b")),
        ],
    );
    assert_eq!(record.step.as_ref().unwrap().n, 2);
    apply_agent_events(&mut record, vec![(4, step_finished(2, StepOutcome::Ok, Some(0), 1000))]);
    assert_eq!(record.step.as_ref().unwrap().n, 1);
}

#[test]
fn a_record_has_a_maximum_of_steps_and_keeps_the_running_one() {
    let mut record = launched_record();
    let mut events = vec![(1, step_started(1, StepKind::Command, "long"))];
    for n in 2..200 {
        events.push((2, step_started(n, StepKind::Command, "short")));
        events.push((2, step_finished(n, StepOutcome::Ok, Some(0), 1)));
    }
    apply_agent_events(&mut record, events);
    assert_eq!(record.steps.len(), MAX_STEPS);
    assert_eq!((record.step.as_ref().unwrap().n, record.steps_total), (1, 199));
}

#[test]
fn events_after_the_end_do_not_change_the_record() {
    let mut record = launched_record();
    let error = JobError { kind: FailureKind::CodexError, message: "bad key".into(), step: None };
    apply_agent_events(
        &mut record,
        vec![(1, accepted()), (2, job_finished(FinalState::Failed, Some(error)))],
    );
    let before = record.clone();
    record.apply(&Event { at: at(9), body: EventBody::LinkLost { reason: "late".into() } });
    record.apply(&Event { at: at(9), body: job_finished(FinalState::Completed, None) });
    similar_asserts::assert_eq!(record, before);
    assert!(record.summary.unwrap().contains("reason: codex_error: bad key"));
}

#[test]
fn a_lost_connection_never_changes_the_state_of_a_job() {
    let mut record = launched_record();
    apply_agent_events(
        &mut record,
        vec![(1, accepted()), (2, EventBody::Started { pid: 1, thread_id: None })],
    );
    record.apply(&Event { at: at(3), body: EventBody::LinkLost { reason: "closed".into() } });
    assert_eq!((record.state, record.link), (State::Running, Some(Link::Lost)));
    record.apply(&Event { at: at(4), body: EventBody::LinkRestored { agent: "a1".into() } });
    assert_eq!((record.state, record.link), (State::Running, Some(Link::Connected)));
}

#[test]
fn unknown_fields_of_a_newer_program_are_preserved() {
    let mut json = serde_json::to_value(launched_record()).unwrap();
    json["mood"] = "sunny".into();
    let record: JobRecord = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(record).unwrap(), json);
}

#[test]
fn a_summary_has_at_most_twelve_lines_and_no_terminal_escapes() {
    let mut record = launched_record();
    let mut events = vec![(1, accepted())];
    for n in 1..20 {
        events.push((2, step_started(n, StepKind::Command, "\x1b[31mred\nline")));
        events.push((2, step_finished(n, StepOutcome::Failed, Some(1), u64::from(n))));
    }
    events.push((3, EventBody::Message { text: "\x1b]0;x\x07line\n".repeat(20) }));
    let error = JobError { kind: FailureKind::CodexExit, message: "\x1bboom".into(), step: None };
    events.push((4, job_finished(FinalState::Failed, Some(error))));
    apply_agent_events(&mut record, events);
    let summary = record.summary.unwrap();
    assert!(summary.lines().count() <= 12, "{summary}");
    assert!(summary.chars().all(|c| c == '\n' || !c.is_control()), "{summary:?}");
}

#[test]
fn a_summary_shows_the_end_of_the_output_of_a_failed_check() {
    let mut record = launched_record();
    let mut events = vec![(1, accepted())];
    for n in 1..9 {
        events.push((2, step_started(n, StepKind::Command, "make")));
        events.push((2, step_finished(n, StepOutcome::Failed, Some(2), u64::from(n))));
    }
    events.push((3, EventBody::Message { text: "one\ntwo\nthree\nfour".into() }));
    events.push((3, EventBody::Usage(Usage::default())));
    let message = "check 'cargo test' ended with exit code 101: 5 / assertion `left == right` failed / left: 1 / \
                   right: 2 / test result: FAILED. 3 passed; 1 failed";
    let error = JobError { kind: FailureKind::CheckFailed, message: message.into(), step: Some(8) };
    events.push((4, job_finished(FinalState::Failed, Some(error))));
    apply_agent_events(&mut record, events);
    let summary = record.summary.unwrap();
    assert!(summary.lines().count() <= 12, "{summary}");
    insta::assert_snapshot!(summary, @r#"
    abe#1 failed after 2.0s
    reason: check_failed: check 'cargo test' ended with exit code 101
          | assertion `left == right` failed
          | left: 1
          | right: 2
          | test result: FAILED. 3 passed; 1 failed
    step 7 command 0.0s: make (exit code 2)
    step 8 command 0.0s: make (exit code 2)  (+6 more steps)
    said: one
          two
    tokens: 0 in, 0 out
    log: /r/abe.1.log
    "#);
}

#[test]
fn a_summary_names_the_outer_step_and_the_resources_of_an_inner_step() {
    let mut record = launched_record();
    let install_started = |n, parent, title: &str| EventBody::StepStarted {
        n,
        kind: StepKind::Install,
        title: title.into(),
        limit_ms: Some(1000),
        parent,
    };
    let install_finished = |n, outcome, cpu_ms, peak_memory| EventBody::StepFinished {
        n,
        outcome,
        exit_code: None,
        elapsed_ms: 60_000,
        resources: Some(crate::event::Resources { cpu_ms, peak_memory }),
    };
    apply_agent_events(
        &mut record,
        vec![
            (1, accepted()),
            (1, install_started(1, None, "make setup")),
            (2, install_started(2, Some(1), "npm ci")),
            (2, EventBody::Stalled { n: 2, evidence: "node (pid 312): 0.0 % CPU".into() }),
            (3, EventBody::Extended { n: Some(2), limit_ms: 5000 }),
        ],
    );
    assert_eq!(record.step.as_ref().map(|step| (step.n, step.limit_ms)), Some((2, Some(5000))));
    assert_eq!(record.warning.as_deref(), Some("step 2 makes no progress: node (pid 312): 0.0 % CPU"));
    apply_agent_events(
        &mut record,
        vec![
            (60, install_finished(2, StepOutcome::Unknown, 12_345, 240 * 1024 * 1024)),
            (60, install_finished(1, StepOutcome::Ok, 12_400, 1536 * 1024 * 1024)),
            (61, job_finished(FinalState::Completed, None)),
        ],
    );
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!((&json["steps"][1]["parent"], json["steps"][0].get("parent")), (&1.into(), None));
    insta::assert_snapshot!(record.summary.unwrap(), @r#"
    abe#1 completed after 1m00s
    step 1 install 1m00s, cpu 12.4s, 1.5 GiB: make setup
    step 2 install 1m00s, cpu 12.3s, 240 MiB: npm ci (in step 1)
    log: /r/abe.1.log
    "#);
}

#[test]
fn a_queued_job_tells_why_it_waits_until_it_is_accepted() {
    let reason = WaitReason::Folder { job: "demo#7".parse().unwrap() };
    let waiting = || EventBody::Waiting { reason: Some(reason.clone()) };
    let mut record = launched_record();
    let apply = |record: &mut JobRecord, body| record.apply(&Event { at: at(1), body });
    apply_agent_events(&mut record, vec![(1, waiting())]);
    assert_eq!(record.waiting, None, "an agent can't record why a job waits");
    apply(&mut record, waiting());
    let text = "waits for demo#7, which works in the same folder; --branch runs beside it";
    assert_eq!(record.waiting.as_deref(), Some(text));
    apply(&mut record, EventBody::Waiting { reason: None });
    assert_eq!(record.waiting, None);
    apply(&mut record, waiting());
    apply_agent_events(&mut record, vec![(4, accepted())]);
    apply(&mut record, waiting());
    assert_eq!((record.state, record.waiting), (State::Starting, None));
}

#[test]
fn the_outcome_of_a_codex_job_without_changes_says_so() {
    let outcome = |runner, changes| {
        let mut record = JobRecord { runner, ..launched_record() };
        let (state, error, exit_code) = (FinalState::Completed, None, Some(0));
        apply_agent_events(
            &mut record,
            vec![(1, accepted()), (2, EventBody::Finished { state, error, exit_code, changes })],
        );
        record.describe_outcome()
    };
    let none = Some(Changes::default());
    assert_eq!(outcome(Runner::Codex, none), "completed, no changes");
    assert_eq!(outcome(Runner::Codex, Some(Changes { files: 1, ..Changes::default() })), "completed");
    assert_eq!(
        (outcome(Runner::Codex, None), outcome(Runner::Shell, none)),
        ("completed".into(), "completed".into())
    );
}
