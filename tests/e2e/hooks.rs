//! `relay hook`: outcomes of workers reach the sessions of host agents, each once, and no hook ever breaks a host.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Instant;

use common::ids::JobId;
use common::origin::{Origin, Session};
use jiff::SignedDuration;
use relay_tests::harness::figures::{figure, percentile};
use relay_tests::harness::host_session::Host;
use relay_tests::harness::outbox::{self, invent};
use relay_tests::harness::tui::Tui;
use relay_tests::harness::{Engine, Site, programs, until};
use relay_tests::scripted_model::Script;
use serde_json::{Value, json};

/// Every hook that `relay init` installs, and the hooks that end a session.
const HOOKS: [&str; 6] =
    ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop", "Interrupt", "SessionEnd"];

/// Calls a hook as a host does.
fn call(site: &Site, event: &str, stdin: &[u8], variables: &[(&str, &str)]) -> Output {
    let mut command = site.command(&["hook", event]);
    // The folder is the one in the JSON, wherever the host runs its hooks.
    command.current_dir("/").envs(variables.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A hook that has read enough may have ended.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{event}: {output:?}");
    output
}

/// Answer to a hook of the session `session`; null for none.
fn answer(site: &Site, session: &str, event: &str, more: &Value) -> Value {
    let mut json = json!({"session_id": session, "cwd": site.workspace(), "hook_event_name": event});
    json.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let output = call(site, event, json.to_string().as_bytes(), &[]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{event}");
    if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() }
}

/// Creates a job that has ended, launched by a session or by none.
fn end(site: &Site, job: &str, session: Option<&str>, minutes: i64) -> JobId {
    let session = session.map(|id| Session { agent: "codex".into(), id: id.into(), home: None });
    invent(site, job, &Origin { session, ..Origin::default() }, SignedDuration::from_mins(minutes))
}

fn context(answer: &Value) -> &str {
    answer["hookSpecificOutput"]["additionalContext"].as_str().unwrap_or_default()
}

/// Number of times that a request contains a text, in any role.
fn count(request: &[String], text: &str) -> usize {
    request.iter().map(|message| message.matches(text).count()).sum()
}

/// Command line that launches this many workers, which end at once, and waits for their completion notices.
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
fn a_busy_session_gets_the_end_of_its_worker_with_its_next_tool_call_once() {
    let site = Site::new(Engine::Local);
    let script = Script::new("busy").run(&launch_and_wait(1)).run("true").run("true").say("Done.");
    // A session starts no relay unless a person has started one before.
    site.relay(&["up"]);
    let host = Host::new(&site, vec![script], &HOOKS);
    host.exec(&site, "[script:busy] Delegate.");
    let told: Vec<usize> =
        host.requests().iter().map(|request| count(request, "relay: worker quick#1 completed")).collect();
    // The first call launches the worker and sees its outcome arrive; a message that was delivered stays in the thread.
    assert_eq!(told, [0, 1, 1, 1]);
    let last = host.requests().pop().unwrap();
    assert!(last.iter().any(|text| text.starts_with("developer: relay: worker quick#1")));
    assert_eq!(site.relay(&["notices"]), "");
    figure("hooks: the end of a worker was in the request behind the tool call that it ended in, once");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_busy_session_on_a_full_screen_gets_the_end_within_its_turn() {
    let site = Site::new(Engine::Local);
    let script = Script::new("busy").run(&launch_and_wait(1)).run("true").say("All is done.");
    // A session starts no relay unless a person has started one before.
    site.relay(&["up"]);
    let host = Host::new(&site, vec![script], &HOOKS);
    let tui = Tui::open(&host, &site, "[script:busy] Delegate.");
    tui.shows("All is done.");
    let requests = host.requests();
    let told = requests.iter().map(|request| count(request, "relay: worker quick#1 completed"));
    // A session with a full-screen interface also sends other requests to its model before its first tool call.
    assert_eq!(told.skip_while(|count| *count == 0).collect::<Vec<_>>(), [1, 1]);
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
fn a_stop_hook_keeps_a_session_going_once_and_not_twice() {
    let site = Site::new(Engine::Local);
    // One more than the maximum that a session receives at once.
    let script = Script::new("stop").run(&launch_and_wait(5)).say("Done.");
    // A session starts no relay unless a person has started one before.
    site.relay(&["up"]);
    let host = Host::new(&site, vec![script], &["Stop"]);
    host.exec(&site, "[script:stop] Delegate.");
    let requests = host.requests();
    let told: Vec<usize> = requests.iter().map(|request| count(request, "relay: worker quick#")).collect();
    assert_eq!(told, [0, 0, 4]);
    assert_eq!(count(&requests[2], "Tell your user what came of it."), 1);
    let rest = site.relay(&["notices"]);
    assert!(rest.contains("quick#5") && !rest.contains("quick#4"), "{rest}");
}

#[test]
fn each_session_gets_its_own_ends_and_those_of_nobody() {
    let site = Site::new(Engine::Local);
    let jobs = [
        end(&site, "own#1", Some("s1"), 3),
        end(&site, "nobody#1", None, 2),
        end(&site, "other#1", Some("s2"), 1),
    ];
    let told = || jobs.clone().map(|job| outbox::is_told(&site, &job));
    assert_eq!(answer(&site, "s1", "PreToolUse", &json!({})), Value::Null);
    assert_eq!(answer(&site, "s1", "Stop", &json!({"stop_hook_active": true})), Value::Null);
    assert_eq!(answer(&site, "s1", "PostToolUse", &json!({"agent_id": "a1"})), Value::Null);
    assert_eq!(told(), [false, false, false]);
    let stop = answer(&site, "s1", "Stop", &json!({"stop_hook_active": false}));
    assert_eq!(stop["decision"], "block");
    assert!(stop["reason"].as_str().unwrap().contains("own#1"), "{stop}");
    assert_eq!(told(), [true, false, false]);
    let start = answer(&site, "s1", "SessionStart", &json!({"source": "startup"}));
    assert_eq!(start["hookSpecificOutput"]["hookEventName"], "SessionStart");
    assert!(context(&start).contains("nobody#1") && !context(&start).contains("other#1"), "{start}");
    assert_eq!(answer(&site, "s1", "UserPromptSubmit", &json!({})), Value::Null);
    let prompt = answer(&site, "s2", "UserPromptSubmit", &json!({"prompt": "x"}));
    assert!(context(&prompt).contains("other#1"), "{prompt}");
    assert_eq!(told(), [true, true, true]);
}

#[test]
fn an_end_goes_to_anybody_when_its_session_is_over_or_silent() {
    let site = Site::new(Engine::Local);
    end(&site, "gone#1", Some("gone"), 61);
    let recent = end(&site, "recent#1", Some("recent"), 59);
    let told = answer(&site, "s1", "PostToolUse", &json!({}));
    assert!(context(&told).contains("gone#1") && !context(&told).contains("recent#1"), "{told}");
    assert!(!outbox::is_told(&site, &recent));
    answer(&site, "recent", "SessionEnd", &json!({"reason": "other"}));
    let told = answer(&site, "s1", "PostToolUse", &json!({}));
    assert!(context(&told).contains("recent#1"), "{told}");
}

#[test]
fn a_worker_gets_no_ends_of_others() {
    let site = Site::new(Engine::Local);
    // The worker's hooks are those of the person who launched it.
    let worker = site.registry().join("worker.1.json");
    end(&site, "worker#1", None, 1);
    let mut record: Value = serde_json::from_slice(&std::fs::read(&worker).unwrap()).unwrap();
    record["state"] = "running".into();
    record["finished_at"] = Value::Null;
    record["thread_id"] = "worker-thread".into();
    std::fs::write(&worker, record.to_string()).unwrap();
    std::fs::remove_file(site.registry().join("outbox/worker.1.json")).unwrap();
    end(&site, "nobody#1", None, 1);
    assert_eq!(answer(&site, "worker-thread", "PostToolUse", &json!({})), Value::Null);
    assert!(context(&answer(&site, "s1", "PostToolUse", &json!({}))).contains("nobody#1"));
}

#[test]
fn a_session_is_noted_as_busy_idle_and_over() {
    let site = Site::new(Engine::Local);
    std::fs::create_dir_all(site.registry()).unwrap();
    let phase = |event: &str, more: Value| {
        assert_eq!(answer(&site, "01a203ca", event, &more), Value::Null);
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
fn nothing_breaks_a_host() {
    let site = Site::new(Engine::Local);
    // Without a registry, and outside of every project: no output, and no file is created.
    let json = |cwd: &str| json!({"session_id": "s1", "cwd": cwd, "hook_event_name": "Stop"}).to_string();
    let quiet = |event: &str, json: &str| {
        let output = call(&site, event, json.as_bytes(), &[]);
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b""[..], &b""[..]),
            "{event} {json}"
        );
    };
    quiet("Stop", &json(&site.root().to_string_lossy()));
    assert!(!site.registry().exists());
    quiet("Stop", &json("/nowhere/at/all"));
    end(&site, "a#1", None, 1);
    quiet("PreCompact", &json(&site.root().to_string_lossy()));
    quiet("no such event", &json(&site.root().to_string_lossy()));
    // Garbage gets one line on stderr.
    let huge = vec![b' '; (16 << 20) + 1];
    for garbage in [&b""[..], b"{", b"\xff\xfe", b"[1]", br#"{"session_id":"../x","cwd":"/"}"#, &huge] {
        let output = call(&site, "PostToolUse", garbage, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.stdout.len(), said.lines().count()), (0, 1), "{said}");
    }
    // A file in the place of a folder is set aside.
    std::fs::write(site.registry().join("sessions"), "no folder").unwrap();
    quiet("SessionEnd", &json(&site.root().to_string_lossy()));
    assert!(site.registry().join("sessions/s1.json").exists());
    assert_eq!(std::fs::read(site.registry().join(".refused-sessions-1")).unwrap(), b"no folder");
    // If the registry can't be opened, the hook reports it, and the outcome is kept for later.
    let elsewhere = site.root().join("elsewhere");
    std::fs::rename(site.registry(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, site.registry()).unwrap();
    let output = call(&site, "SessionEnd", json(&site.root().to_string_lossy()).as_bytes(), &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is a symbolic link"), "{output:?}");
    std::fs::remove_file(site.registry()).unwrap();
    std::fs::rename(&elsewhere, site.registry()).unwrap();
}

/// Sends the calls that Claude Code's reference of hooks documents: Claude Code itself is not on the machine of the
/// tests.
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
    for (event, more) in calls {
        let session =
            Session { agent: "claude".into(), id: common["session_id"].as_str().unwrap().into(), home: None };
        let job = format!("{}#1", event.to_lowercase());
        let origin = Origin { session: Some(session), ..Origin::default() };
        let job = invent(&site, &job, &origin, SignedDuration::from_secs(60));
        let mut json = common.clone();
        json["hook_event_name"] = event.into();
        json.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        let variables = [("CLAUDE_PROJECT_DIR", "/w"), ("CLAUDE_ENV_FILE", environment)];
        let output = call(&site, event, json.to_string().as_bytes(), &variables);
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
                assert!(context(&answer).contains(&name), "{answer}");
            }
        }
    }
    // The variables that the hook wrote name the session for later commands.
    let named = std::fs::read_to_string(environment).unwrap();
    assert_eq!(named, "export RELAY_SESSION=claude:8c35adc1-0000-4000-8000-000000000001\n");
}

#[test]
fn a_hook_costs_little_when_there_is_nothing() {
    let site = Site::new(Engine::Local);
    for n in 1..=200 {
        let job = end(&site, &format!("old#{n}"), None, 100);
        std::fs::write(site.registry().join(format!("outbox/{}.shown", job.file_stem())), "{}").unwrap();
    }
    let time = |_| {
        let begun = Instant::now();
        assert_eq!(
            answer(&site, "s1", "PostToolUse", &json!({"tool_response": "x".repeat(10_000)})),
            Value::Null
        );
        begun.elapsed()
    };
    let times: Vec<_> = (0..50).map(time).collect();
    let (p50, p99) = (percentile(times.clone(), 50), percentile(times, 99));
    figure(&format!(
        "hooks: PostToolUse without an end, 200 told ones in the outbox: {p50:.1?} (p50), {p99:.1?} (p99)"
    ));
    assert!(p50.as_millis() < 200, "{p50:?}");
}
