//! Codex jobs, with a shell script instead of Codex. The agent sees only its output and its exit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::codex::{self, BEGIN_TURN, END_TURN};
use crate::support::figures::{figure, ms};
use crate::support::{Agent, MAX_PROMPT_END, Relay, mark, processes, relay_and_agent};
use common::event::{EventBody, FailureKind, FinalState, StepOutcome};
use common::job::{JobSpec, StepKind};
use serde_json::json;

/// Shell command that prints a message of the model.
const SAY_DONE: &str =
    r#"echo '{"type":"item.completed","item":{"id":"item_9","type":"agent_message","text":"All done."}}'"#;

/// Runs `demo#1` to its end, with the script `body` instead of Codex and a spec changed by `change`.
async fn run(body: &str, change: impl FnOnce(&mut JobSpec)) -> (Relay, Agent) {
    let (mut relay, agent) = relay_and_agent().await;
    let mut spec = codex::job_spec(&agent, "demo#1", body);
    change(&mut spec);
    relay.start(&spec).await;
    relay.until_finished("demo#1").await;
    (relay, agent)
}

fn failure(relay: &Relay) -> (FailureKind, String) {
    let error = relay.demo_error();
    (error.kind, error.message)
}

#[tokio::test]
async fn a_turn_becomes_steps_a_log_and_a_completed_job() {
    let command = r#"{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'npm ci'","aggregated_output":"added 1\n","exit_code":0,"status":"completed"}"#;
    let item = format!(r#"{{"type":"item.completed","item":{command}}}"#);
    let body =
        format!("cat; echo; echo noise >&2; {BEGIN_TURN}; cat <<'X'\n{item}\nX\n{SAY_DONE}; {END_TURN}");
    let (relay, agent) = run(&body, |_| {}).await;
    let run = relay.demo();
    assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))));
    let install = run.events.iter().any(|event| {
        matches!(&event.body, EventBody::StepStarted { kind: StepKind::Install, title, .. } if title == "npm ci")
    });
    assert!(install, "{:#?}", run.events);
    let thread = run
        .events
        .iter()
        .any(|event| matches!(&event.body, EventBody::Started { thread_id: Some(id), .. } if id == "t-1"));
    assert!(thread && run.log_text().contains("$ npm ci\n    added 1\n    exit 0"), "{}", run.log_text());
    assert!(run.log_text().contains("noise\n"), "{}", run.log_text());
    let copy = agent.workspace().join(".codex-worker/demo.1");
    assert_eq!(fs::read_to_string(copy.join("last-message.txt")).unwrap(), "All done.");
    assert!(
        fs::read_to_string(copy.join("codex.jsonl")).unwrap().starts_with("say hello\n{\"type\":\"thread")
    );
}

#[tokio::test]
async fn a_failed_turn_fails_the_job_with_its_reason() {
    let body = format!(
        r#"{BEGIN_TURN}; echo '{{"type":"turn.failed","error":{{"message":"quota exceeded"}}}}'; exit 1"#
    );
    let (relay, _agent) = run(&body, |_| {}).await;
    let message = "the account's quota is used up: check its plan and billing (codex: quota exceeded)";
    assert_eq!(failure(&relay), (FailureKind::UsageLimit, message.to_owned()));
}

/// Shell command that prints a line of Codex's trace log: the model has sent a part of an answer.
const TRACE_LINE: &str = r#"echo '2026-11-22T19:41:06.959552Z TRACE codex_api::sse::responses: SSE event: {"type":"response.output_text.delta","delta":"a canary"}' >&2"#;

#[tokio::test]
async fn a_model_that_sends_parts_is_not_silent_and_its_trace_gets_into_no_log() {
    let writes =
        format!("for n in $(seq 12); do {TRACE_LINE}; sleep 0.2; done; echo \"asked for $RUST_LOG\" >&2");
    let body = format!("{BEGIN_TURN}; {writes}; {SAY_DONE}; {END_TURN}");
    let (relay, agent) = run(&body, |spec| {
        spec.limits.steps.insert(StepKind::Model, 2000);
    })
    .await;
    let run = relay.demo();
    assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))), "{}", run.log_text());
    assert!(run.log_text().contains("asked for error,codex_api::sse=trace"), "{}", run.log_text());
    let copy = agent.workspace().join(".codex-worker/demo.1");
    let copies = fs::read_dir(copy).unwrap().flatten().map(|file| fs::read_to_string(file.path()).unwrap());
    assert!(copies.chain([run.log_text()]).all(|text| !text.contains("canary")), "{}", run.log_text());
}

#[tokio::test]
async fn codex_s_trace_gets_into_the_log_if_the_job_sets_rust_log() {
    let body =
        format!("{BEGIN_TURN}; {TRACE_LINE}; echo \"asked for $RUST_LOG\" >&2; {SAY_DONE}; {END_TURN}");
    let (relay, _agent) = run(&body, |spec| {
        spec.env.insert("RUST_LOG".into(), "trace".into());
    })
    .await;
    let text = relay.demo().log_text();
    assert!(text.contains("canary") && text.contains("asked for trace\n"), "{text}");
}

#[tokio::test]
async fn an_exit_without_events_is_reported_with_the_last_line_of_stderr() {
    let (relay, _agent) = run("echo 'Error: bad config' >&2; exit 1", |_| {}).await;
    let (kind, message) = failure(&relay);
    assert_eq!(kind, FailureKind::CodexExit);
    assert!(message.contains("exit code 1") && message.ends_with("Error: bad config"), "{message}");
}

#[tokio::test]
async fn p12_a_codex_that_a_signal_kills_is_reported_with_the_signal() {
    let (relay, _agent) = run(&format!("{BEGIN_TURN}; kill -9 $$"), |_| {}).await;
    let (kind, message) = failure(&relay);
    assert!(kind == FailureKind::CodexExit && message.contains("signal 9"), "{message}");
    let (relay, _agent) = run(&format!("{BEGIN_TURN}; kill -SEGV $$"), |_| {}).await;
    assert!(failure(&relay).1.contains("SEGV"));
    figure("Codex ended by KILL and SEGV (fault P12): cause recorded 2 of 2");
}

#[tokio::test]
async fn p11_a_codex_that_stays_after_its_turn_is_ended_and_the_job_completes() {
    let mark = mark();
    let (relay, _agent) = run(&format!("{BEGIN_TURN}; {END_TURN}; exec sleep {mark}"), |_| {}).await;
    let run = relay.demo();
    assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))));
    assert_eq!(processes(&mark), [] as [u32; 0]);
    let (first, last) = (run.events.first().unwrap(), run.events.last().unwrap());
    let took = last.at.duration_since(first.at).unsigned_abs();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(10) + MAX_PROMPT_END, "{took:?}");
    figure(&format!(
        "Codex alive after its turn (fault P11): completed, misclassified 0, ended after {}",
        ms(took)
    ));
}

#[tokio::test]
async fn a_silent_model_fails_the_job_at_its_limit_despite_retries() {
    let retry = r#"echo '{"type":"error","message":"Reconnecting... 1/5 (x)"}'"#;
    let body = format!("{BEGIN_TURN}; while sleep 0.05; do {retry}; done");
    let (relay, _agent) = run(&body, |spec| {
        spec.limits.steps.insert(StepKind::Model, 400);
        spec.limits.grace_ms = 500;
    })
    .await;
    let (kind, message) = failure(&relay);
    assert!(kind == FailureKind::ModelSilent && message.contains("400ms"), "{message}");
}

#[tokio::test]
async fn a_codex_without_activity_fails_at_the_start_limit() {
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
        "{BEGIN_TURN}; echo '{begin}'; printf '%s' '{head}'; head -c 3000000 /dev/zero | tr '\\0' x; echo '{tail}'; {END_TURN}"
    );
    let (relay, _agent) = run(&body, |_| {}).await;
    let has_failed_step = relay.demo().events.iter().any(|event| {
        matches!(
            event.body,
            EventBody::StepFinished { outcome: StepOutcome::Failed, exit_code: Some(101), .. }
        )
    });
    assert!(has_failed_step, "{:#?}", relay.demo().events);
    assert!(relay.demo().log_text().len() < 64 * 1024);
}

#[tokio::test]
async fn a_completed_turn_does_not_hide_a_bad_exit_code() {
    let (relay, _agent) = run(&format!("{BEGIN_TURN}; {END_TURN}; exit 3"), |_| {}).await;
    assert_eq!(failure(&relay).0, FailureKind::CodexExit);
}

#[tokio::test]
async fn without_codex_or_its_credentials_a_job_is_refused_with_the_fix() {
    let (mut relay, agent) = relay_and_agent().await;
    let mut spec = codex::job_spec(&agent, "demo#1", "true");
    spec.env.insert("HOME".into(), agent.dir.path().display().to_string());
    spec.env.remove("CODEX_API_KEY");
    relay.start(&spec).await;
    let (reason, is_busy) = relay.until_refused("demo#1").await;
    assert!(!is_busy && reason.contains("CODEX_API_KEY"), "{reason}");
    spec.codex.program = "no-such-codex".into();
    relay.start(&spec).await;
    let (reason, _) = relay.until_refused("demo#1").await;
    assert!(reason.contains("npm install -g @openai/codex"), "{reason}");
}

#[tokio::test]
async fn a_codex_that_does_not_report_its_version_in_time_is_used_nevertheless() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("codex");
    let mark = mark();
    let body = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec sleep {mark}\n{BEGIN_TURN}; {SAY_DONE}; {END_TURN}\n"
    );
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
        "the version is unknown, and that is no problem"
    );
    let mut spec = codex::job_spec(&agent, "demo#1", "");
    spec.codex.program = program.display().to_string();
    relay.start(&spec).await;
    assert_eq!(relay.until_finished("demo#1").await.outcome().unwrap().0, FinalState::Completed);
    assert_eq!(processes(&mark), [] as [u32; 0]);
}

#[tokio::test]
async fn a_thread_id_that_codex_would_read_as_a_name_or_a_flag_is_refused() {
    let (mut relay, agent) = relay_and_agent().await;
    for thread in ["--last", "my thread"] {
        let mut spec = codex::job_spec(&agent, "demo#1", "true");
        spec.thread = Some(thread.to_owned());
        relay.start(&spec).await;
        let (reason, is_busy) = relay.until_refused("demo#1").await;
        assert!(!is_busy && reason.contains("has an invalid id"), "{reason}");
    }
}

#[tokio::test]
async fn a_thread_that_codex_has_lost_fails_the_job_with_the_fix() {
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
