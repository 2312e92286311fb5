//! `relay hook`: completion notices reach the sessions of host agents, each once, and no hook makes a host fail.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Instant;

use common::ids::JobId;
use common::origin::{Origin, Session};
use jiff::SignedDuration;
use relay_tests::harness::figures::{figure, percentile};
use relay_tests::harness::host_session::Host;
use relay_tests::harness::outbox::{self, create_ended_job};
use relay_tests::harness::tui::Tui;
use relay_tests::harness::{Engine, Site, programs, until};
use relay_tests::scripted_model::Script;
use serde_json::{Value, json};

/// Every hook that `relay init` installs, and the hooks that end a session.
const HOOKS: [&str; 6] =
    ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop", "Interrupt", "SessionEnd"];

/// Runs `relay hook` as a host agent does, with the event's JSON on stdin.
fn call_hook(site: &Site, event: &str, stdin: &[u8], variables: &[(&str, &str)]) -> Output {
    let mut command = site.command(&["hook", event]);
    // The hook must use the folder in the JSON, not the working folder.
    command.current_dir("/").envs(variables.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // An error says that the hook has ended without reading everything.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{event}: {output:?}");
    output
}

/// Runs `relay hook` for an event of a session, with additional `fields`; returns the answer, null if there is none.
fn hook_answer(site: &Site, session: &str, event: &str, fields: &Value) -> Value {
    let mut json = json!({"session_id": session, "cwd": site.workspace(), "hook_event_name": event});
    json.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
    let output = call_hook(site, event, json.to_string().as_bytes(), &[]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{event}");
    if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() }
}

/// Creates an ended job, launched by a session or by none, and its undelivered completion notice.
fn create_notice(site: &Site, job: &str, session: Option<&str>, minutes: i64) -> JobId {
    let session = session.map(|id| Session { agent: "codex".into(), id: id.into(), home: None });
    create_ended_job(site, job, &Origin { session, ..Origin::default() }, SignedDuration::from_mins(minutes))
}

fn additional_context(answer: &Value) -> &str {
    answer["hookSpecificOutput"]["additionalContext"].as_str().unwrap_or_default()
}

/// Returns the number of times that the messages of a request contain a text.
fn count_matches(request: &[String], text: &str) -> usize {
    request.iter().map(|message| message.matches(text).count()).sum()
}

/// Returns a command line that launches `count` jobs, which end at once, and waits for their completion notices.
fn launch_and_wait(count: usize) -> String {
    let relay = programs::dir().join("relay");
    let relay = relay.display();
    let launch = format!("{relay} launch -q --runner shell -w workspace-projects/demo -n quick true");
    let wait = "until [ -e platform/workers/outbox/quick.$n.json ]; do sleep 0.05; done";
    let each: Vec<String> = (1..=count).map(|n| format!("n={n}; {launch} && {wait}")).collect();
    each.join(" && ")
}

#[test]
#[ignore = "needs the real Codex"]
fn a_busy_session_gets_a_notice_once_with_its_next_tool_call() {
    let site = Site::new(Engine::Local);
    let script = Script::new("busy").run(&launch_and_wait(1)).run("true").run("true").say("Done.");
    // A session starts no relay unless a person has started one before.
    site.relay(&["up"]);
    let host = Host::new(&site, vec![script], &HOOKS);
    host.exec(&site, "[script:busy] Delegate.");
    let notices: Vec<usize> = host
        .requests()
        .iter()
        .map(|request| count_matches(request, "relay: worker quick#1 completed"))
        .collect();
    // The job ends during the first tool call; the next request has the notice, which then stays in the thread.
    assert_eq!(notices, [0, 1, 1, 1]);
    let last = host.requests().pop().unwrap();
    assert!(last.iter().any(|text| text.starts_with("developer: relay: worker quick#1")));
    assert_eq!(site.relay(&["notices"]), "");
    figure("hooks: the end of a worker was in the request behind the tool call that it ended in, once");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_busy_session_on_a_full_screen_gets_a_notice_within_its_turn() {
    let site = Site::new(Engine::Local);
    let script = Script::new("busy").run(&launch_and_wait(1)).run("true").say("All is done.");
    // A session starts no relay unless a person has started one before.
    site.relay(&["up"]);
    let host = Host::new(&site, vec![script], &HOOKS);
    let prompt = "[script:busy] Delegate.";
    let tui = Tui::open(&host, &site, prompt);
    tui.wait_until_shown("All is done.");
    let mut requests = host.requests();
    // A session with a full-screen interface also asks its model for a title, at any time.
    requests.retain(|request| request.contains(&format!("user: {prompt}")));
    let notices = requests.iter().map(|request| count_matches(request, "relay: worker quick#1 completed"));
    assert_eq!(notices.collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(site.relay(&["notices"]), "");
    let session = std::fs::read_dir(site.registry().join("sessions")).unwrap().next().unwrap().unwrap();
    let phase = || {
        let state = std::fs::read(session.path()).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        (state["phase"] == "idle").then_some(())
    };
    until("the session is idle", phase);
    figure("hooks: a busy session on a full screen had the end of its worker within the turn");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_stop_hook_continues_a_session_once_and_not_twice() {
    let site = Site::new(Engine::Local);
    // A session receives at most four notices at once.
    let script = Script::new("stop").run(&launch_and_wait(5)).say("Done.");
    // A session starts no relay unless a person has started one before.
    site.relay(&["up"]);
    let host = Host::new(&site, vec![script], &["Stop"]);
    host.exec(&site, "[script:stop] Delegate.");
    let requests = host.requests();
    let notices: Vec<usize> =
        requests.iter().map(|request| count_matches(request, "relay: worker quick#")).collect();
    assert_eq!(notices, [0, 0, 4]);
    assert_eq!(count_matches(&requests[2], "Tell your user what came of it."), 1);
    let rest = site.relay(&["notices"]);
    assert!(rest.contains("quick#5") && !rest.contains("quick#4"), "{rest}");
}

#[test]
fn each_session_gets_notices_of_its_own_jobs_and_of_jobs_without_a_session() {
    let site = Site::new(Engine::Local);
    let jobs = [
        create_notice(&site, "own#1", Some("s1"), 3),
        create_notice(&site, "nobody#1", None, 2),
        create_notice(&site, "other#1", Some("s2"), 1),
    ];
    let shown = || jobs.clone().map(|job| outbox::is_shown(&site, &job));
    assert_eq!(hook_answer(&site, "s1", "PreToolUse", &json!({})), Value::Null);
    assert_eq!(hook_answer(&site, "s1", "Stop", &json!({"stop_hook_active": true})), Value::Null);
    assert_eq!(hook_answer(&site, "s1", "PostToolUse", &json!({"agent_id": "a1"})), Value::Null);
    assert_eq!(shown(), [false, false, false]);
    let stop = hook_answer(&site, "s1", "Stop", &json!({"stop_hook_active": false}));
    assert_eq!(stop["decision"], "block");
    assert!(stop["reason"].as_str().unwrap().contains("own#1"), "{stop}");
    assert_eq!(shown(), [true, false, false]);
    let start = hook_answer(&site, "s1", "SessionStart", &json!({"source": "startup"}));
    assert_eq!(start["hookSpecificOutput"]["hookEventName"], "SessionStart");
    assert!(
        additional_context(&start).contains("nobody#1") && !additional_context(&start).contains("other#1"),
        "{start}"
    );
    assert_eq!(hook_answer(&site, "s1", "UserPromptSubmit", &json!({})), Value::Null);
    let prompt = hook_answer(&site, "s2", "UserPromptSubmit", &json!({"prompt": "x"}));
    assert!(additional_context(&prompt).contains("other#1"), "{prompt}");
    assert_eq!(shown(), [true, true, true]);
}

#[test]
fn a_notice_goes_to_any_session_if_its_own_has_ended_or_is_silent_for_an_hour() {
    let site = Site::new(Engine::Local);
    create_notice(&site, "gone#1", Some("gone"), 61);
    let recent = create_notice(&site, "recent#1", Some("recent"), 59);
    let answer = hook_answer(&site, "s1", "PostToolUse", &json!({}));
    assert!(
        additional_context(&answer).contains("gone#1") && !additional_context(&answer).contains("recent#1"),
        "{answer}"
    );
    assert!(!outbox::is_shown(&site, &recent));
    hook_answer(&site, "recent", "SessionEnd", &json!({"reason": "other"}));
    let answer = hook_answer(&site, "s1", "PostToolUse", &json!({}));
    assert!(additional_context(&answer).contains("recent#1"), "{answer}");
}

#[test]
fn a_worker_gets_no_notices_of_other_jobs() {
    let site = Site::new(Engine::Local);
    // A worker's Codex runs the hooks of the person who launched the worker.
    let worker = site.registry().join("worker.1.json");
    create_notice(&site, "worker#1", None, 1);
    let mut record: Value = serde_json::from_slice(&std::fs::read(&worker).unwrap()).unwrap();
    record["state"] = "running".into();
    record["finished_at"] = Value::Null;
    record["thread_id"] = "worker-thread".into();
    std::fs::write(&worker, record.to_string()).unwrap();
    std::fs::remove_file(site.registry().join("outbox/worker.1.json")).unwrap();
    create_notice(&site, "nobody#1", None, 1);
    assert_eq!(hook_answer(&site, "worker-thread", "PostToolUse", &json!({})), Value::Null);
    assert!(additional_context(&hook_answer(&site, "s1", "PostToolUse", &json!({}))).contains("nobody#1"));
}

#[test]
fn the_state_of_a_session_is_recorded_as_busy_idle_and_over() {
    let site = Site::new(Engine::Local);
    std::fs::create_dir_all(site.registry()).unwrap();
    let phase = |event: &str, fields: Value| {
        assert_eq!(hook_answer(&site, "01a203ca", event, &fields), Value::Null);
        let state = std::fs::read(site.registry().join("sessions/01a203ca.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        assert_eq!((&state["schema"], &state["agent"]), (&json!(1), &json!("codex")));
        state["phase"].as_str().unwrap().to_owned()
    };
    assert_eq!(phase("SessionStart", json!({"source": "startup"})), "idle");
    assert_eq!(phase("UserPromptSubmit", json!({})), "busy");
    assert_eq!(phase("Interrupt", json!({})), "idle");
    assert_eq!(phase("PostToolUse", json!({})), "busy");
    assert_eq!(phase("Stop", json!({})), "idle");
    assert_eq!(phase("SessionStart", json!({"source": "compact"})), "busy");
    assert_eq!(phase("SessionEnd", json!({"reason": "other"})), "over");
}

#[test]
fn a_hook_with_unusable_input_or_registry_still_exits_with_0() {
    let site = Site::new(Engine::Local);
    // Without a registry, or outside of every project, a hook prints nothing and creates no file.
    let json = |cwd: &str| json!({"session_id": "s1", "cwd": cwd, "hook_event_name": "Stop"}).to_string();
    let check_silent = |event: &str, json: &str| {
        let output = call_hook(&site, event, json.as_bytes(), &[]);
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b""[..], &b""[..]),
            "{event} {json}"
        );
    };
    check_silent("Stop", &json(&site.root().to_string_lossy()));
    assert!(!site.registry().exists());
    check_silent("Stop", &json("/nowhere/at/all"));
    create_notice(&site, "a#1", None, 1);
    check_silent("PreCompact", &json(&site.root().to_string_lossy()));
    check_silent("no such event", &json(&site.root().to_string_lossy()));
    // Invalid input gets one line on stderr.
    let huge = vec![b' '; (16 << 20) + 1];
    for garbage in [&b""[..], b"{", b"\xff\xfe", b"[1]", br#"{"session_id":"../x","cwd":"/"}"#, &huge] {
        let output = call_hook(&site, "PostToolUse", garbage, &[]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.stdout.len(), message.lines().count()), (0, 1), "{message}");
    }
    // A file instead of a folder is set aside.
    std::fs::write(site.registry().join("sessions"), "no folder").unwrap();
    check_silent("SessionEnd", &json(&site.root().to_string_lossy()));
    assert!(site.registry().join("sessions/s1.json").exists());
    assert_eq!(std::fs::read(site.registry().join(".refused-sessions-1")).unwrap(), b"no folder");
    // If the registry can't be opened, the hook reports it, and the outcome is kept for later.
    let elsewhere = site.root().join("elsewhere");
    std::fs::rename(site.registry(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, site.registry()).unwrap();
    let output = call_hook(&site, "SessionEnd", json(&site.root().to_string_lossy()).as_bytes(), &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is a symbolic link"), "{output:?}");
    std::fs::remove_file(site.registry()).unwrap();
    std::fs::rename(&elsewhere, site.registry()).unwrap();
}

/// Calls the hooks as the documentation of Claude Code describes it; the tests do not install Claude Code.
#[test]
fn the_documented_calls_of_claude_code_are_answered() {
    let site = Site::new(Engine::Local);
    let common = json!({
        "session_id": "8c35adc1-0000-4000-8000-000000000001", "cwd": site.root(), "permission_mode": "default",
        "transcript_path": "/home/u/.claude/projects/p/8c35adc1-0000-4000-8000-000000000001.jsonl",
    });
    let calls = [
        ("SessionStart", json!({"source": "startup", "model": "claude-sonnet-4-5"})),
        ("UserPromptSubmit", json!({"prompt": "Write a function"})),
        (
            "PostToolUse",
            json!({"tool_name": "Bash", "tool_use_id": "toolu_01", "tool_input": {"command": "ls"},
                               "tool_response": {"stdout": "x", "interrupted": false}}),
        ),
        ("Stop", json!({"stop_hook_active": false, "last_assistant_message": "Done."})),
        ("SessionEnd", json!({"reason": "exit"})),
    ];
    let environment = site.root().join("claude-env");
    let environment = environment.to_str().unwrap();
    for (event, fields) in calls {
        let session =
            Session { agent: "claude".into(), id: common["session_id"].as_str().unwrap().into(), home: None };
        let job = format!("{}#1", event.to_lowercase());
        let origin = Origin { session: Some(session), ..Origin::default() };
        let job = create_ended_job(&site, &job, &origin, SignedDuration::from_secs(60));
        let mut json = common.clone();
        json["hook_event_name"] = event.into();
        json.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
        let variables = [("CLAUDE_PROJECT_DIR", "/w"), ("CLAUDE_ENV_FILE", environment)];
        let output = call_hook(&site, event, json.to_string().as_bytes(), &variables);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let name = job.to_string();
        match event {
            "SessionEnd" => assert_eq!(answer, Value::Null),
            "Stop" => {
                assert_eq!(answer["decision"], "block");
                assert!(answer["reason"].as_str().unwrap().contains(&name), "{answer}");
            }
            _ => {
                assert_eq!(answer["hookSpecificOutput"]["hookEventName"], event);
                assert!(additional_context(&answer).contains(&name), "{answer}");
            }
        }
    }
    // The variables that the hook wrote name the session for later commands.
    let named = std::fs::read_to_string(environment).unwrap();
    assert_eq!(named, "export RELAY_SESSION=claude:8c35adc1-0000-4000-8000-000000000001\n");
}

#[test]
fn a_hook_without_a_notice_is_fast() {
    let site = Site::new(Engine::Local);
    for n in 1..=200 {
        let job = create_notice(&site, &format!("old#{n}"), None, 100);
        std::fs::write(site.registry().join(format!("outbox/{}.shown", job.file_stem())), "{}").unwrap();
    }
    let time = |_| {
        let started = Instant::now();
        assert_eq!(
            hook_answer(&site, "s1", "PostToolUse", &json!({"tool_response": "x".repeat(10_000)})),
            Value::Null
        );
        started.elapsed()
    };
    let times: Vec<_> = (0..50).map(time).collect();
    let (p50, p99) = (percentile(times.clone(), 50), percentile(times, 99));
    figure(&format!(
        "hooks: PostToolUse without a notice, 200 shown ones in the outbox: {p50:.1?} (p50), {p99:.1?} (p99)"
    ));
    // A host ends a hook that takes longer.
    assert!(p50.as_secs() < 10, "{p50:?}");
}
