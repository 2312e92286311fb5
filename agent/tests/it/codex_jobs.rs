//! Codex jobs, with a script in the place of Codex: the agent sees only its output and its exit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::codex::{self, DONE, THREAD};
use crate::support::figures::{figure, ms};
use crate::support::{Agent, Relay, connected, mark, processes};
use common::event::{EventBody, FailureKind, FinalState, StepOutcome};
use common::job::{JobSpec, StepKind};
use serde_json::json;

const SAID: &str =
    r#"echo '{"type":"item.completed","item":{"id":"item_9","type":"agent_message","text":"All done."}}'"#;

async fn run(body: &str, change: impl FnOnce(&mut JobSpec)) -> (Relay, Agent) {
    let (mut relay, agent) = connected().await;
    let mut spec = codex::job(&agent, "demo#1", body);
    change(&mut spec);
    relay.start(&spec).await;
    relay.until_finished("demo#1").await;
    (relay, agent)
}

fn failure(relay: &Relay) -> (FailureKind, String) {
    let error = relay.failure();
    (error.kind, error.message)
}

#[tokio::test]
async fn a_turn_becomes_steps_a_log_and_a_completed_job() {
    let command = r#"{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'npm ci'","aggregated_output":"added 1\n","exit_code":0,"status":"completed"}"#;
    let item = format!(r#"{{"type":"item.completed","item":{command}}}"#);
    let body = format!("cat; echo; echo noise >&2; {THREAD}; cat <<'X'\n{item}\nX\n{SAID}; {DONE}");
    let (relay, agent) = run(&body, |_| {}).await;
    let run = relay.demo();
    assert_eq!(run.finished(), Some((FinalState::Completed, None, Some(0))));
    let install = run.events.iter().any(|event| {
        matches!(&event.body, EventBody::StepStarted { kind: StepKind::Install, title, .. } if title == "npm ci")
    });
    assert!(install, "{:#?}", run.events);
    let thread = run
        .events
        .iter()
        .any(|event| matches!(&event.body, EventBody::Started { thread_id: Some(id), .. } if id == "t-1"));
    assert!(thread && run.text().contains("$ npm ci\n    added 1\n    exit 0"), "{}", run.text());
    assert!(run.text().contains("noise\n"), "{}", run.text());
    let copy = agent.workspace().join(".codex-worker/demo.1");
    assert_eq!(fs::read_to_string(copy.join("last-message.txt")).unwrap(), "All done.");
    assert!(
        fs::read_to_string(copy.join("codex.jsonl")).unwrap().starts_with("say hello\n{\"type\":\"thread")
    );
}

#[tokio::test]
async fn a_failed_turn_tells_its_reason() {
    let body = format!(
        r#"{THREAD}; echo '{{"type":"turn.failed","error":{{"message":"quota exceeded"}}}}'; exit 1"#
    );
    let (relay, _agent) = run(&body, |_| {}).await;
    let told = "the account's quota is used up: check its plan and billing (codex: quota exceeded)";
    assert_eq!(failure(&relay), (FailureKind::UsageLimit, told.to_owned()));
}

/// A line of Codex's trace, as Codex prints it when trace is enabled.
const BEAT: &str = r#"echo '2026-11-22T19:41:06.959552Z TRACE codex_api::sse::responses: SSE event: {"type":"response.output_text.delta","delta":"a canary"}' >&2"#;

#[tokio::test]
async fn a_model_that_writes_is_not_silent_and_its_trace_is_kept_nowhere() {
    let writes =
        format!("for n in 1 2 3 4 5 6; do {BEAT}; sleep 0.2; done; echo \"asked for $RUST_LOG\" >&2");
    let body = format!("{THREAD}; {writes}; {SAID}; {DONE}");
    let (relay, agent) = run(&body, |spec| {
        spec.limits.steps.insert(StepKind::Model, 800);
    })
    .await;
    let run = relay.demo();
    assert_eq!(run.finished(), Some((FinalState::Completed, None, Some(0))), "{}", run.text());
    assert!(run.text().contains("asked for error,codex_api::sse=trace"), "{}", run.text());
    let copy = agent.workspace().join(".codex-worker/demo.1");
    let copies = fs::read_dir(copy).unwrap().flatten().map(|file| fs::read_to_string(file.path()).unwrap());
    assert!(copies.chain([run.text()]).all(|text| !text.contains("canary")), "{}", run.text());
}

#[tokio::test]
async fn who_asks_codex_for_lines_gets_them() {
    let body = format!("{THREAD}; {BEAT}; echo \"asked for $RUST_LOG\" >&2; {SAID}; {DONE}");
    let (relay, _agent) = run(&body, |spec| {
        spec.env.insert("RUST_LOG".into(), "trace".into());
    })
    .await;
    let text = relay.demo().text();
    assert!(text.contains("canary") && text.contains("asked for trace\n"), "{text}");
}

#[tokio::test]
async fn an_exit_without_a_word_tells_the_last_line_of_stderr() {
    let (relay, _agent) = run("echo 'Error: bad config' >&2; exit 1", |_| {}).await;
    let (kind, message) = failure(&relay);
    assert_eq!(kind, FailureKind::CodexExit);
    assert!(message.contains("exit code 1") && message.ends_with("Error: bad config"), "{message}");
}

#[tokio::test]
async fn p12_a_codex_that_dies_of_a_signal_is_told_as_that() {
    let (relay, _agent) = run(&format!("{THREAD}; kill -9 $$"), |_| {}).await;
    let (kind, message) = failure(&relay);
    assert!(kind == FailureKind::CodexExit && message.contains("signal 9"), "{message}");
    let (relay, _agent) = run(&format!("{THREAD}; kill -SEGV $$"), |_| {}).await;
    assert!(failure(&relay).1.contains("SEGV"));
    figure("P12 Codex ended by KILL and SEGV: cause recorded 2 of 2");
}

#[tokio::test]
async fn p11_a_codex_that_lingers_after_its_turn_is_ended_and_the_job_is_completed() {
    let mark = mark();
    let (relay, _agent) = run(&format!("{THREAD}; {DONE}; exec sleep {mark}"), |_| {}).await;
    let run = relay.demo();
    assert_eq!(run.finished(), Some((FinalState::Completed, None, Some(0))));
    assert_eq!(processes(&mark), [] as [u32; 0]);
    let (first, last) = (run.events.first().unwrap(), run.events.last().unwrap());
    let took = last.at.duration_since(first.at).unsigned_abs();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(13), "{took:?}");
    figure(&format!("P11 Codex alive after its turn: completed, misclassified 0, ended after {}", ms(took)));
}

#[tokio::test]
async fn a_silent_model_fails_fast_and_retries_do_not_help_it() {
    let retry = r#"echo '{"type":"error","message":"Reconnecting... 1/5 (x)"}'"#;
    let body = format!("{THREAD}; while sleep 0.05; do {retry}; done");
    let (relay, _agent) = run(&body, |spec| {
        spec.limits.steps.insert(StepKind::Model, 400);
        spec.limits.grace_ms = 500;
    })
    .await;
    let (kind, message) = failure(&relay);
    assert!(kind == FailureKind::ModelSilent && message.contains("400ms"), "{message}");
}

#[tokio::test]
async fn a_codex_that_shows_no_life_fails_at_its_start_limit() {
    let (relay, _agent) = run("sleep 600", |spec| {
        spec.limits.steps.insert(StepKind::Start, 300);
    })
    .await;
    assert_eq!(failure(&relay).0, FailureKind::StartTimeout);
}

#[tokio::test]
async fn a_command_with_megabytes_of_output_still_ends_its_step() {
    let begin = r#"{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"cargo test","status":"in_progress"}}"#;
    let head = r#"{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"cargo test","aggregated_output":""#;
    let tail = r#"","exit_code":101,"status":"failed"}}"#;
    let body = format!(
        "{THREAD}; echo '{begin}'; printf '%s' '{head}'; head -c 3000000 /dev/zero | tr '\\0' x; echo '{tail}'; {DONE}"
    );
    let (relay, _agent) = run(&body, |_| {}).await;
    let ended = relay.demo().events.iter().any(|event| {
        matches!(
            event.body,
            EventBody::StepFinished { outcome: StepOutcome::Failed, exit_code: Some(101), .. }
        )
    });
    assert!(ended, "{:#?}", relay.demo().events);
    assert!(relay.demo().text().len() < 64 * 1024);
}

#[tokio::test]
async fn forged_lines_do_not_turn_a_bad_exit_into_a_good_one() {
    let (relay, _agent) = run(&format!("{THREAD}; {DONE}; exit 3"), |_| {}).await;
    assert_eq!(failure(&relay).0, FailureKind::CodexExit);
}

#[tokio::test]
async fn without_codex_or_its_credentials_the_job_is_refused_with_what_to_do() {
    let (mut relay, agent) = connected().await;
    let mut spec = codex::job(&agent, "demo#1", "true");
    spec.env.insert("HOME".into(), agent.dir.path().display().to_string());
    spec.env.remove("CODEX_API_KEY");
    relay.start(&spec).await;
    let (reason, busy) = relay.until_refused("demo#1").await;
    assert!(!busy && reason.contains("CODEX_API_KEY"), "{reason}");
    spec.codex.program = "no-such-codex".into();
    relay.start(&spec).await;
    let (reason, _) = relay.until_refused("demo#1").await;
    assert!(reason.contains("npm install -g @openai/codex"), "{reason}");
}

#[tokio::test]
async fn a_codex_that_is_slow_to_tell_its_version_is_tried_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("codex");
    let mark = mark();
    let body = format!("#!/bin/sh\n[ \"$1\" = --version ] && exec sleep {mark}\n{THREAD}; {SAID}; {DONE}\n");
    fs::write(&program, body).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut relay = Relay::new().await;
    let agent = Agent::start_with(
        &relay.url(),
        &json!({"codex": program, "env": {"CODEX_API_KEY": "s3cr3t"}, "max_jobs": 1}),
    );
    let platform = relay.accept().await.platform;
    assert_eq!(
        (platform.codex, platform.codex_problem),
        (None, None),
        "nothing is known, and nothing is claimed"
    );
    let mut spec = codex::job(&agent, "demo#1", "");
    spec.codex.program = program.display().to_string();
    relay.start(&spec).await;
    assert_eq!(relay.until_finished("demo#1").await.finished().unwrap().0, FinalState::Completed);
    assert_eq!(processes(&mark), [] as [u32; 0]);
}

#[tokio::test]
async fn a_thread_that_codex_would_take_for_a_name_or_a_flag_is_refused() {
    let (mut relay, agent) = connected().await;
    for thread in ["--last", "my thread"] {
        let mut spec = codex::job(&agent, "demo#1", "true");
        spec.thread = Some(thread.to_owned());
        relay.start(&spec).await;
        let (reason, busy) = relay.until_refused("demo#1").await;
        assert!(!busy && reason.contains("has an invalid id"), "{reason}");
    }
}

#[tokio::test]
async fn a_thread_that_codex_has_lost_is_told_with_what_to_do() {
    let gone = "echo 'Error: thread/resume: no rollout found for thread id x (code -32600)' >&2; exit 1";
    let thread = |spec: &mut common::job::JobSpec| {
        spec.thread = Some("01a203ca-9b3a-74f0-a0f9-92040009a617".to_owned());
    };
    let (relay, _agent) = run(gone, thread).await;
    let (kind, message) = failure(&relay);
    assert_eq!(
        (kind, message.as_str()),
        (FailureKind::CodexExit, "the Codex thread is gone: launch a new job")
    );
}
