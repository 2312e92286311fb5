//! Steps derived from recorded and made-up runs of Codex, in virtual time.

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

struct Course {
    steps: Steps,
    tracker: Tracker,
    log: Vec<String>,
}

impl Course {
    fn new() -> Self {
        Self::with(OnLoop::Warn)
    }

    fn with(on_loop: OnLoop) -> Self {
        let steps = Steps::new(s(0), Limits::default(), OnLimit::Fail, Rules::default());
        let mut steps = steps.with_on_loop(on_loop);
        let (tracker, event) = Tracker::new(s(0), 312, &mut steps);
        let mut course = Self { steps, tracker, log: Vec::new() };
        course.note(&[event]);
        course
    }

    fn line(&mut self, now: u64, line: &str) -> &mut Self {
        let event = parse(&Line::Whole(line.as_bytes().to_vec())).unwrap();
        let events = self.tracker.take_event(s(now), &event, &mut self.steps);
        self.note(&events);
        self
    }

    fn note(&mut self, events: &[EventBody]) {
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

const THREAD: &str = r#"{"type":"thread.started","thread_id":"t-1"}"#;
const TURN: &str = r#"{"type":"turn.started"}"#;
const BEGIN: &str = r#"{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'cd x && npm ci'","exit_code":null,"status":"in_progress"}}"#;
const END: &str = r#"{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'cd x && npm ci'","aggregated_output":"","exit_code":1,"status":"failed"}}"#;
const SAID: &str =
    r#"{"type":"item.completed","item":{"id":"item_2","type":"agent_message","text":"Done."}}"#;
const DONE: &str = r#"{"type":"turn.completed","usage":{"input_tokens":5}}"#;
const RETRY: &str = r#"{"type":"error","message":"Reconnecting... 1/5 (x)"}"#;

#[test]
fn a_whole_course_gives_these_events() {
    let mut course = Course::new();
    course.line(1, THREAD).line(1, TURN).line(4, BEGIN).line(14, END).line(20, SAID).line(21, DONE);
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
    similar_asserts::assert_eq!(course.log, expected);
    assert_eq!(course.tracker.last_turn(), Some(&Turn::Completed));
    assert_eq!(course.tracker.last_message(), Some("Done."));
}

#[test]
fn retries_do_not_reset_the_deadline_of_the_model() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(250, RETRY);
    assert_eq!(course.steps.next_deadline(), s(300));
    course.line(299, RETRY);
    assert_eq!(course.steps.next_deadline(), s(300));
    course.line(299, SAID);
    assert_eq!(course.steps.next_deadline(), s(299 + 300));
}

#[test]
fn activity_of_the_model_restarts_its_deadline_and_codexs_own_messages_do_not() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(250, RETRY);
    course.tracker.on_activity(s(299), &mut course.steps);
    assert_eq!(course.steps.next_deadline(), s(299 + 300));
    course.log.clear();
    course.line(310, r#"{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Falling back from WebSockets to HTTPS transport. request timed out"}}"#);
    assert_eq!(course.steps.next_deadline(), s(299 + 300));
    let said = "Falling back from WebSockets to HTTPS transport. request timed out";
    assert_eq!(course.log, [format!("Warning {{ message: {said:?} }}")]);
}

#[test]
fn a_burst_of_retries_is_told_once_a_minute() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN);
    course.log.clear();
    for n in 1..=50 {
        course.line(n, &RETRY.replace("1/5", &format!("{n}/50")));
    }
    assert_eq!(course.log, [r#"Warning { message: "codex retries (1/50: x)" }"#]);
    course.line(61, RETRY);
    assert_eq!(course.log.len(), 2, "{:?}", course.log);
}

#[test]
fn a_silent_model_is_given_up_with_the_last_that_is_known() {
    let why = |lines: &[&str], beat: bool| {
        let mut course = Course::new();
        course.line(0, THREAD).line(0, TURN);
        for line in lines {
            course.line(1, line);
        }
        if beat {
            course.tracker.on_activity(s(2), &mut course.steps);
        }
        course.steps.due_actions(s(400), &|_| None);
        let Some(DueAction::Failure(error)) = course.steps.due_actions(s(700), &|_| None).pop() else {
            panic!("still waiting")
        };
        assert_eq!(error.kind, FailureKind::ModelSilent);
        error.message
    };
    let never = "codex reports no error: the server seems to have accepted the request and never answered";
    assert_eq!(why(&[], false), format!("the model was silent for 10m: {never}"));
    assert_eq!(why(&[RETRY], false), "the model was silent for 10m: codex retries (1/5: x)");
    let network = RETRY.replace("1/5 (x)", "waiting for network (Connection failed: y)");
    assert!(why(&[RETRY, &network], false).contains("codex waits for the network (Connection failed: y)"));
    assert!(why(&[RETRY], true).ends_with("it began to answer and then stopped"));
}

#[test]
fn the_model_is_not_waited_for_while_a_command_runs() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(1, BEGIN).line(2, SAID);
    assert!(!course.log.last().unwrap().contains("model"), "{:?}", course.log);
}

#[test]
fn a_step_that_fails_for_the_fifth_time_is_told_of_once() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN);
    for n in 1..=9 {
        course.line(n, BEGIN).line(n, END);
    }
    let told: Vec<_> = course.log.iter().filter(|line| line.contains("no progress")).collect();
    assert!(told.len() == 1 && told[0].contains("failed 5 times: npm ci"), "{told:?}");
}

#[test]
fn a_command_that_fails_while_its_job_is_being_ended_was_ended_with_it() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(1, BEGIN);
    course.steps.mark_ending();
    course.line(2, END);
    assert!(course.log.contains(&"-3 Killed Some(1) 1000".to_owned()), "{:?}", course.log);
}

#[test]
fn tokens_that_are_not_told_are_not_zero() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(1, r#"{"type":"turn.completed","spent":{"in":5}}"#);
    assert_eq!(course.tracker.last_turn(), Some(&Turn::Completed));
    assert!(!course.log.iter().any(|line| line.contains("Usage")), "{:?}", course.log);
}

#[test]
fn a_worker_in_a_loop_is_warned_of_or_ended_as_its_job_wants() {
    let loop_error = |on_loop| {
        let mut course = Course::with(on_loop);
        course.line(0, THREAD).line(0, TURN);
        for n in 1..6 {
            course.line(n, BEGIN).line(n, END);
        }
        let warnings = course.log.iter().filter(|line| line.starts_with("Warning")).count();
        (course.steps.next_deadline(), course.steps.due_actions(s(6), &|_| None), warnings)
    };
    let (next, due, warnings) = loop_error(OnLoop::Fail);
    let [DueAction::Failure(error)] = &due[..] else { panic!("{due:?}") };
    assert_eq!((error.kind, error.step, warnings), (FailureKind::NoProgress, Some(11), 0));
    assert!(error.message.starts_with("no progress: the same step failed 5 times: npm ci"), "{error:?}");
    assert_eq!(next, s(0), "it waits for no clock");
    let (next, due, warnings) = loop_error(OnLoop::Warn);
    assert!(next > s(6) && due.is_empty() && warnings == 1, "{due:?}");
}

#[test]
fn a_command_that_outlives_the_turn_ends_unseen_and_that_is_told() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(1, BEGIN).line(5, DONE);
    let told = "still running when the worker's turn ended, and ended with it: npm ci";
    assert!(course.log.contains(&format!("Warning {{ message: {told:?} }}")), "{:?}", course.log);
    assert!(course.log.contains(&"-3 Unknown None 4000".to_owned()), "{:?}", course.log);
    assert_eq!(course.steps.newest_active(), None);
}

#[test]
fn a_command_that_ends_after_its_turn_does_not_undo_the_turn() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(1, BEGIN).line(5, DONE).line(6, END);
    assert_eq!(course.tracker.last_turn(), Some(&Turn::Completed));
    assert_eq!(course.steps.newest_active(), None, "{:?}", course.log);
    let failed = r#"{"type":"turn.failed","error":{"message":"boom"}}"#;
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(1, BEGIN).line(5, failed).line(6, END);
    assert_eq!(course.tracker.last_turn(), Some(&Turn::Failed("boom".into())));
}

#[test]
fn a_thread_without_a_turn_is_waited_for_no_longer_than_a_model() {
    let mut course = Course::new();
    course.line(5, THREAD);
    assert_eq!(course.steps.next_deadline(), s(5 + 300));
    course.steps.due_actions(s(400), &|_| None);
    let Some(DueAction::Failure(error)) = course.steps.due_actions(s(5 + 600), &|_| None).pop() else {
        panic!("no limit")
    };
    assert!(error.message.ends_with("codex has not started a turn"), "{}", error.message);
    let mut course = Course::new();
    course.line(5, THREAD).line(6, TURN);
    course.steps.due_actions(s(400), &|_| None);
    let Some(DueAction::Failure(error)) = course.steps.due_actions(s(5 + 600), &|_| None).pop() else {
        panic!("no limit")
    };
    assert!(error.message.contains("never answered"), "{}", error.message);
}

#[test]
fn work_after_a_turn_was_called_done_means_that_it_was_not() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN).line(1, DONE).line(2, BEGIN);
    assert_eq!(course.tracker.last_turn(), None);
}

#[test]
fn edits_tools_searches_plans_and_unknown_items_are_told() {
    let mut course = Course::new();
    course.line(0, THREAD).line(0, TURN);
    course.log.clear();
    course
        .line(1, r#"{"type":"item.started","item":{"id":"a","type":"file_change","changes":[{"path":"/w/x","kind":"add"}],"status":"in_progress"}}"#)
        .line(2, r#"{"type":"item.completed","item":{"id":"a","type":"file_change","changes":[{"path":"/w/x","kind":"add"}],"status":"completed"}}"#)
        .line(3, r#"{"type":"item.completed","item":{"id":"item_6","type":"web_search","id":"ws_1","query":"rust"}}"#)
        .line(4, r#"{"type":"item.completed","item":{"id":"b","type":"mcp_tool_call","server":"s","tool":"t","status":"failed"}}"#)
        .line(5, r#"{"type":"item.completed","item":{"id":"c","type":"hologram"}}"#);
    course.log.retain(|line| !line.contains("model"));
    let files = vec![ChangedFile { path: "/w/x".into(), kind: "add".into() }];
    let changed = format!("{:?}", EventBody::FileChange { files });
    let all = course.log.join("\n");
    for wanted in ["edit: /w/x", "search: rust", "tool: s.t", changed.as_str()] {
        assert!(all.contains(wanted), "{wanted} in {all}");
    }
    assert_eq!(course.tracker.unknown_message_count(), 1);
}

#[test]
fn a_flood_of_forged_items_is_bounded() {
    let mut course = Course::new();
    for n in 0..1000 {
        course.line(1, &BEGIN.replace("item_1", &format!("x{n}")));
    }
    assert_eq!(course.tracker.step_by_item.len(), MAX_ITEMS);
}

/// Recorded output of the real Codex for scripted models.
const TRANSCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/transcripts");

#[test]
fn every_recorded_transcript_is_understood_and_ends_all_its_steps() {
    let versions = std::fs::read_dir(TRANSCRIPTS).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let files = versions.flat_map(|version| std::fs::read_dir(version.path()).unwrap().flatten());
    let mut read = 0;
    for file in files.filter(|file| file.path().extension().is_some_and(|extension| extension == "jsonl")) {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let mut course = Course::new();
        for (now, line) in (1..).zip(text.lines()) {
            course.line(now, line);
        }
        let name = file.file_name();
        assert_eq!(course.tracker.unknown_message_count(), 0, "{}", name.display());
        let left = course.log.iter().any(|line| line.contains("still running when the worker's turn ended"));
        assert_eq!(
            left,
            name.to_str().unwrap().starts_with("turn-ends-before"),
            "{}: {:#?}",
            name.display(),
            course.log
        );
        if course.tracker.last_turn().is_some() {
            assert_eq!(course.steps.newest_active(), None, "{}: {:#?}", name.display(), course.log);
        }
        read += 1;
    }
    assert!(read > 0, "no transcript in {TRANSCRIPTS}");
}
