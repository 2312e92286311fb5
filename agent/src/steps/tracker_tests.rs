//! Tests of steps derived from recorded and simulated runs of Codex, in virtual time.

use common::event::{ChangedFile, FailureKind};
use common::job::Limits;
use common::rule::{OnLimit, OnLoop};

use super::super::rules::Rules;
use super::super::step_table::DueAction;
use super::*;
use crate::codex::event::parse;
use crate::codex::lines::Line;

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

struct CodexRun {
    steps: Steps,
    tracker: Tracker,
    log: Vec<String>,
}

impl CodexRun {
    fn new() -> Self {
        Self::with_on_loop(OnLoop::Warn)
    }

    fn with_on_loop(on_loop: OnLoop) -> Self {
        let steps = Steps::new(s(0), Limits::default(), OnLimit::Fail, Rules::default());
        let mut steps = steps.with_on_loop(on_loop);
        let (tracker, event) = Tracker::new(s(0), 312, &mut steps);
        let mut codex = Self { steps, tracker, log: Vec::new() };
        codex.log_events(&[event]);
        codex
    }

    fn line(&mut self, now: u64, line: &str) -> &mut Self {
        let event = parse(&Line::Whole(line.as_bytes().to_vec())).unwrap();
        let events = self.tracker.take_event(s(now), &event, &mut self.steps);
        self.log_events(&events);
        self
    }

    fn log_events(&mut self, events: &[EventBody]) {
        for event in events {
            self.log.push(match event {
                EventBody::StepStarted { n, kind, title, .. } => format!("+{n} {kind}: {title}"),
                EventBody::StepFinished { n, outcome, exit_code, elapsed_ms, .. } => {
                    format!("-{n} {outcome:?} {exit_code:?} {elapsed_ms}")
                }
                other => format!("{other:?}"),
            });
        }
    }
}

const THREAD_STARTED: &str = r#"{"type":"thread.started","thread_id":"t-1"}"#;
const TURN_STARTED: &str = r#"{"type":"turn.started"}"#;
const COMMAND_STARTED: &str = r#"{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'cd x && npm ci'","exit_code":null,"status":"in_progress"}}"#;
const COMMAND_FAILED: &str = r#"{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'cd x && npm ci'","aggregated_output":"","exit_code":1,"status":"failed"}}"#;
const MESSAGE: &str =
    r#"{"type":"item.completed","item":{"id":"item_2","type":"agent_message","text":"Done."}}"#;
const TURN_COMPLETED: &str = r#"{"type":"turn.completed","usage":{"input_tokens":5}}"#;
const RETRY: &str = r#"{"type":"error","message":"Reconnecting... 1/5 (x)"}"#;

#[test]
fn a_complete_run_causes_the_expected_events() {
    let mut codex = CodexRun::new();
    codex
        .line(1, THREAD_STARTED)
        .line(1, TURN_STARTED)
        .line(4, COMMAND_STARTED)
        .line(14, COMMAND_FAILED)
        .line(20, MESSAGE)
        .line(21, TURN_COMPLETED);
    let expected = [
        "+1 start: codex exec",
        "-1 Ok None 1000",
        r#"Started { pid: 312, thread_id: Some("t-1") }"#,
        "+2 model: waiting for the model",
        "-2 Ok None 3000",
        "+3 install: npm ci",
        "-3 Failed Some(1) 10000",
        "+4 model: waiting for the model",
        "-4 Ok None 6000",
        r#"Message { text: "Done." }"#,
        "+5 model: waiting for the model",
        "-5 Ok None 1000",
        "Usage(Usage { input_tokens: 5, cached_input_tokens: 0, output_tokens: 0, reasoning_output_tokens: 0 })",
    ];
    similar_asserts::assert_eq!(codex.log, expected);
    assert_eq!(codex.tracker.last_turn(), Some(&Turn::Completed));
    assert_eq!(codex.tracker.last_message(), Some("Done."));
}

#[test]
fn retries_do_not_reset_the_deadline_of_the_model() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED).line(250, RETRY);
    assert_eq!(codex.steps.next_deadline(), s(300));
    codex.line(299, RETRY);
    assert_eq!(codex.steps.next_deadline(), s(300));
    codex.line(299, MESSAGE);
    assert_eq!(codex.steps.next_deadline(), s(299 + 300));
}

#[test]
fn an_error_is_a_warning_in_the_server_s_words_unless_it_is_a_usage_limit() {
    let mut codex = CodexRun::new();
    codex
        .line(0, THREAD_STARTED)
        .line(1, r#"{"type":"error","message":"{\"error\":{\"message\":\"no more\",\"code\":\"x\"}}"}"#)
        .line(2, r#"{"type":"error","message":"You've hit your usage limit. Try again later."}"#);
    let warnings: Vec<&String> = codex.log.iter().filter(|line| line.starts_with("Warning")).collect();
    assert_eq!(warnings, [r#"Warning { message: "no more" }"#]);
}

#[test]
fn activity_of_the_model_restarts_its_deadline_and_codex_s_own_messages_do_not() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED).line(250, RETRY);
    codex.tracker.on_activity(s(299), &mut codex.steps);
    assert_eq!(codex.steps.next_deadline(), s(299 + 300));
    codex.log.clear();
    codex.line(310, r#"{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Falling back from WebSockets to HTTPS transport. request timed out"}}"#);
    assert_eq!(codex.steps.next_deadline(), s(299 + 300));
    let said = "Falling back from WebSockets to HTTPS transport. request timed out";
    assert_eq!(codex.log, [format!("Warning {{ message: {said:?} }}")]);
}

#[test]
fn a_burst_of_retries_is_reported_once_a_minute() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED);
    codex.log.clear();
    for n in 1..=50 {
        codex.line(n, &RETRY.replace("1/5", &format!("{n}/50")));
    }
    assert_eq!(codex.log, [r#"Warning { message: "codex retries (1/50: x)" }"#]);
    codex.line(61, RETRY);
    assert_eq!(codex.log.len(), 2, "{:?}", codex.log);
}

#[test]
fn a_silent_model_fails_the_job_with_the_last_known_reason() {
    let reason = |lines: &[&str], has_activity: bool| {
        let mut codex = CodexRun::new();
        codex.line(0, THREAD_STARTED).line(0, TURN_STARTED);
        for line in lines {
            codex.line(1, line);
        }
        if has_activity {
            codex.tracker.on_activity(s(2), &mut codex.steps);
        }
        codex.steps.due_actions(s(400), &|_| None);
        let Some(DueAction::Failure(error)) = codex.steps.due_actions(s(700), &|_| None).pop() else {
            panic!("still waiting")
        };
        assert_eq!(error.kind, FailureKind::ModelSilent);
        error.message
    };
    let never = "codex reports no error: the server seems to have accepted the request and never answered";
    assert_eq!(reason(&[], false), format!("the model was silent for 10m: {never}"));
    assert_eq!(reason(&[RETRY], false), "the model was silent for 10m: codex retries (1/5: x)");
    let network = RETRY.replace("1/5 (x)", "waiting for network (Connection failed: y)");
    assert!(reason(&[RETRY, &network], false).contains("codex waits for the network (Connection failed: y)"));
    assert!(reason(&[RETRY], true).ends_with("it began to answer and then stopped"));
}

#[test]
fn the_model_is_not_waited_for_while_a_command_runs() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED).line(1, COMMAND_STARTED).line(2, MESSAGE);
    assert!(!codex.log.last().unwrap().contains("model"), "{:?}", codex.log);
}

#[test]
fn a_step_that_fails_for_the_fifth_time_is_reported_once() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED);
    for n in 1..=9 {
        codex.line(n, COMMAND_STARTED).line(n, COMMAND_FAILED);
    }
    let reports: Vec<_> = codex.log.iter().filter(|line| line.contains("no progress")).collect();
    assert!(reports.len() == 1 && reports[0].contains("failed 5 times: npm ci"), "{reports:?}");
}

#[test]
fn a_command_that_fails_while_the_job_is_being_ended_counts_as_killed() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED).line(1, COMMAND_STARTED);
    codex.steps.mark_ending();
    codex.line(2, COMMAND_FAILED);
    assert!(codex.log.contains(&"-3 Killed Some(1) 1000".to_owned()), "{:?}", codex.log);
}

#[test]
fn missing_token_counts_are_not_reported_as_zero() {
    let mut codex = CodexRun::new();
    codex
        .line(0, THREAD_STARTED)
        .line(0, TURN_STARTED)
        .line(1, r#"{"type":"turn.completed","spent":{"in":5}}"#);
    assert_eq!(codex.tracker.last_turn(), Some(&Turn::Completed));
    assert!(!codex.log.iter().any(|line| line.contains("Usage")), "{:?}", codex.log);
}

#[test]
fn a_loop_causes_a_warning_or_fails_the_job() {
    let loop_error = |on_loop| {
        let mut codex = CodexRun::with_on_loop(on_loop);
        codex.line(0, THREAD_STARTED).line(0, TURN_STARTED);
        for n in 1..6 {
            codex.line(n, COMMAND_STARTED).line(n, COMMAND_FAILED);
        }
        let warnings = codex.log.iter().filter(|line| line.starts_with("Warning")).count();
        (codex.steps.next_deadline(), codex.steps.due_actions(s(6), &|_| None), warnings)
    };
    let (next, due, warnings) = loop_error(OnLoop::Fail);
    let [DueAction::Failure(error)] = &due[..] else { panic!("{due:?}") };
    assert_eq!((error.kind, error.step, warnings), (FailureKind::NoProgress, Some(11), 0));
    assert!(error.message.starts_with("no progress: the same step failed 5 times: npm ci"), "{error:?}");
    assert_eq!(next, s(0), "the failure is due at once");
    let (next, due, warnings) = loop_error(OnLoop::Warn);
    assert!(next > s(6) && due.is_empty() && warnings == 1, "{due:?}");
}

#[test]
fn a_command_that_outlives_the_turn_has_an_unknown_outcome_and_a_warning() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED).line(1, COMMAND_STARTED).line(5, TURN_COMPLETED);
    let reports = "still running when the worker's turn ended, and ended with it: npm ci";
    assert!(codex.log.contains(&format!("Warning {{ message: {reports:?} }}")), "{:?}", codex.log);
    assert!(codex.log.contains(&"-3 Unknown None 4000".to_owned()), "{:?}", codex.log);
    assert_eq!(codex.steps.newest_active_step(), None);
}

#[test]
fn a_command_that_ends_after_its_turn_does_not_change_the_turn() {
    let mut codex = CodexRun::new();
    codex
        .line(0, THREAD_STARTED)
        .line(0, TURN_STARTED)
        .line(1, COMMAND_STARTED)
        .line(5, TURN_COMPLETED)
        .line(6, COMMAND_FAILED);
    assert_eq!(codex.tracker.last_turn(), Some(&Turn::Completed));
    assert_eq!(codex.steps.newest_active_step(), None, "{:?}", codex.log);
    let failed = r#"{"type":"turn.failed","error":{"message":"boom"}}"#;
    let mut codex = CodexRun::new();
    codex
        .line(0, THREAD_STARTED)
        .line(0, TURN_STARTED)
        .line(1, COMMAND_STARTED)
        .line(5, failed)
        .line(6, COMMAND_FAILED);
    assert_eq!(codex.tracker.last_turn(), Some(&Turn::Failed("boom".into())));
}

#[test]
fn the_wait_for_a_turn_has_the_limit_of_a_wait_for_the_model() {
    let mut codex = CodexRun::new();
    codex.line(5, THREAD_STARTED);
    assert_eq!(codex.steps.next_deadline(), s(5 + 300));
    codex.steps.due_actions(s(400), &|_| None);
    let Some(DueAction::Failure(error)) = codex.steps.due_actions(s(5 + 600), &|_| None).pop() else {
        panic!("no limit")
    };
    assert!(error.message.ends_with("codex has not started a turn"), "{}", error.message);
    let mut codex = CodexRun::new();
    codex.line(5, THREAD_STARTED).line(6, TURN_STARTED);
    codex.steps.due_actions(s(400), &|_| None);
    let Some(DueAction::Failure(error)) = codex.steps.due_actions(s(5 + 600), &|_| None).pop() else {
        panic!("no limit")
    };
    assert!(error.message.contains("never answered"), "{}", error.message);
}

#[test]
fn a_new_item_after_the_end_of_a_turn_continues_the_turn() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED).line(1, TURN_COMPLETED).line(2, COMMAND_STARTED);
    assert_eq!(codex.tracker.last_turn(), None);
}

#[test]
fn edits_tools_and_searches_are_steps_and_unknown_items_are_counted() {
    let mut codex = CodexRun::new();
    codex.line(0, THREAD_STARTED).line(0, TURN_STARTED);
    codex.log.clear();
    codex
        .line(1, r#"{"type":"item.started","item":{"id":"a","type":"file_change","changes":[{"path":"/w/x","kind":"add"}],"status":"in_progress"}}"#)
        .line(2, r#"{"type":"item.completed","item":{"id":"a","type":"file_change","changes":[{"path":"/w/x","kind":"add"}],"status":"completed"}}"#)
        .line(3, r#"{"type":"item.completed","item":{"id":"item_6","type":"web_search","id":"ws_1","query":"rust"}}"#)
        .line(4, r#"{"type":"item.completed","item":{"id":"b","type":"mcp_tool_call","server":"s","tool":"t","status":"failed"}}"#)
        .line(5, r#"{"type":"item.completed","item":{"id":"c","type":"hologram"}}"#);
    codex.log.retain(|line| !line.contains("model"));
    let files = vec![ChangedFile { path: "/w/x".into(), kind: "add".into() }];
    let changed = format!("{:?}", EventBody::FileChange { files });
    let all = codex.log.join("\n");
    for wanted in ["edit: /w/x", "search: rust", "tool: s.t", changed.as_str()] {
        assert!(all.contains(wanted), "{wanted} in {all}");
    }
    assert_eq!(codex.tracker.unknown_message_count(), 1);
}

#[test]
fn a_flood_of_forged_items_is_bounded() {
    let mut codex = CodexRun::new();
    for n in 0..1000 {
        codex.line(1, &COMMAND_STARTED.replace("item_1", &format!("x{n}")));
    }
    assert_eq!(codex.tracker.step_by_item.len(), MAX_ITEMS);
}

/// Recorded output of the real Codex for scripted models.
const TRANSCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/transcripts");

#[test]
fn every_recorded_transcript_is_understood_and_ends_all_its_steps() {
    let versions = std::fs::read_dir(TRANSCRIPTS).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let files = versions.flat_map(|version| std::fs::read_dir(version.path()).unwrap().flatten());
    let mut file_count = 0;
    for file in files.filter(|file| file.path().extension().is_some_and(|extension| extension == "jsonl")) {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let mut codex = CodexRun::new();
        for (now, line) in (1..).zip(text.lines()) {
            codex.line(now, line);
        }
        let name = file.file_name();
        assert_eq!(codex.tracker.unknown_message_count(), 0, "{}", name.display());
        let is_unfinished =
            codex.log.iter().any(|line| line.contains("still running when the worker's turn ended"));
        assert_eq!(
            is_unfinished,
            name.to_str().unwrap().starts_with("turn-ends-before"),
            "{}: {:#?}",
            name.display(),
            codex.log
        );
        if codex.tracker.last_turn().is_some() {
            assert_eq!(codex.steps.newest_active_step(), None, "{}: {:#?}", name.display(), codex.log);
        }
        file_count += 1;
    }
    assert!(file_count > 0, "no transcript in {TRANSCRIPTS}");
}
