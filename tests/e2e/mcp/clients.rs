//! Tests of `relay mcp` with independent MCP clients: the real Codex, and the MCP SDK for Python.

use std::collections::BTreeSet;
use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

use common::event::EventBody;
use common::origin::Session;
use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs};
use serde_json::{Value, json};

use crate::codex;

/// Adds `relay mcp` to the configuration of a site's Codex.
fn configure_codex(site: &Site) {
    let config = site.codex_home().join("config.toml");
    let entry = format!(
        "\n[mcp_servers.relay]\ncommand = \"{}\"\nargs = [\"mcp\"]\ndefault_tools_approval_mode = \"approve\"\n\
         env_vars = [\"CODEX_HOME\", \"XDG_STATE_HOME\"]\nrequired = true\n",
        programs::dir().join("relay").display()
    );
    let mut config = OpenOptions::new().append(true).open(config).unwrap();
    config.write_all(entry.as_bytes()).unwrap();
}

/// Runs the real Codex as a host agent in the site's root; returns its events.
fn run_codex(site: &Site, prompt: &str) -> Vec<Value> {
    let output = Command::new(programs::codex())
        .args(["exec", "--json", "--skip-git-repo-check", "-s", "workspace-write", prompt])
        .current_dir(site.root())
        .env("CODEX_HOME", site.codex_home())
        .env("HOME", site.home())
        .env("XDG_STATE_HOME", site.state_home())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
#[ignore = "needs the real Codex"]
fn codex_delegates_with_mcp_tools_without_an_approval_and_its_thread_owns_the_job() {
    let (_model, site) = codex::site(Engine::Local, "127.0.0.1");
    configure_codex(&site);
    // A session starts a relay only if a person has started one before.
    site.relay(&["up"]);
    site.relay(&["down"]);
    let events = run_codex(&site, "[script:delegates] Delegate.");
    let thread = events.iter().find_map(|event| event["thread_id"].as_str()).unwrap();
    let done: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "item.completed" && event["item"]["type"] == "mcp_tool_call")
        .map(|event| &event["item"])
        .collect();
    let calls: Vec<_> = done.iter().map(|item| (item["tool"].as_str(), item["status"].as_str())).collect();
    let completed = Some("completed");
    let expected = [(Some("launch"), completed), (Some("wait"), completed), (Some("status"), completed)];
    assert_eq!(calls, expected, "{done:#?}");
    let answer_text = |at: usize| done[at]["result"]["structured_content"]["text"].as_str().unwrap();
    assert!(answer_text(0).contains("Worker demo#1 launched"), "{}", answer_text(0));
    assert!(answer_text(1).starts_with("demo#1 completed"), "{}", answer_text(1));
    assert!(answer_text(2).contains("That was quick."), "{}", answer_text(2));
    // The relay that the session started outlives the session.
    let record = site.record("demo#1");
    assert_eq!(outcome(&record), (State::Completed, None));
    let home = Some(site.codex_home().display().to_string());
    let session = Session { agent: "codex".to_owned(), id: thread.to_owned(), home };
    assert_eq!(record.origin.session, Some(session));
}

/// Calls tools of `relay mcp` for a thread, with a client of the Python SDK, which `tests/run.sh` installs. Returns the
/// names of the listed tools and the text of each answer.
fn call_tools(site: &Site, calls: &Value, thread: &str) -> (BTreeSet<String>, Vec<String>) {
    let python = env::var_os("RELAY_TEST_MCP_PYTHON");
    let python = python.unwrap_or_else(|| programs::workspace().join("target/mcp-client/bin/python").into());
    let input = json!({
        "cwd": site.root(),
        "env": {
            "HOME": site.home(),
            "XDG_STATE_HOME": site.state_home(),
            "CODEX_HOME": site.codex_home(),
        },
        "meta": {"x-codex-turn-metadata": {"thread_id": thread}},
        "calls": calls,
    });
    let mut client = Command::new(&python)
        .arg(programs::workspace().join("tests/e2e/mcp/client.py"))
        .arg(programs::dir().join("relay"))
        .arg("mcp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}: run ./tests/run.sh", python.display()));
    client.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let message: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    let texts = strings(&message["results"], "/structuredContent/text");
    (strings(&message["tools"], "/name").collect(), texts.collect())
}

/// Returns the string at a JSON pointer in each value of a list.
fn strings(list: &Value, pointer: &str) -> impl Iterator<Item = String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(move |value| value.pointer(pointer).unwrap().as_str().unwrap().to_owned())
}

#[test]
#[ignore = "needs the real Codex and the Python package mcp"]
fn a_client_of_the_python_sdk_lists_and_calls_every_tool() {
    let (_model, site) = codex::site(Engine::Local, "127.0.0.1");
    site.relay(&["up"]);
    let thread = "01a203ca-9b3a-74f0-a0f9-92040009a617";
    let launch = json!([
        ["launch", {"prompt": "[script:sleep] Sleep.", "workspace": "workspace-projects/demo", "name": "abe",
                    "setup": ["echo setup"], "checks": ["true"], "timeout": "10m", "model": "gpt-5.5", "key": "k1"}],
        ["launch", {"prompt": "[script:sleep] Sleep.", "workspace": "workspace-projects/demo", "name": "abe", "key": "k1"}],
    ]);
    let later_calls = json!([
        ["status", {}],
        ["status", {"job": "abe"}],
        ["wait", {"jobs": ["abe"], "any": true, "timeout": "1s"}],
        ["extend", {"job": "abe", "by": "10m"}],
        ["logs", {"job": "abe", "lines": 3}],
        ["cancel", {"jobs": ["abe"]}],
        ["explain", {"job": "abe"}],
        ["wait", {"jobs": ["abe#1"]}],
        ["notices", {"peek": true}],
        ["resume", {"job": "abe", "prompt": "[script:quick] Be quick.", "timeout": "5m", "checks": ["true"], "key": "k2"}],
        ["wait", {"jobs": ["abe#2"], "timeout": "50s"}],
        ["retry", {"job": "abe#2", "timeout": "5m", "key": "k3"}],
        ["wait", {"jobs": ["abe#3"], "timeout": "50s"}],
        ["compare", {"jobs": ["abe#2", "abe#3"]}],
        ["diff", {"job": "abe#2", "stat": true}],
        ["apply", {"job": "abe#2"}],
        ["merge", {"job": "abe#2"}],
        ["discard", {"job": "abe#2"}],
        ["status", {"jobs": ["abe"]}],
    ]);
    let (listed, mut texts) = call_tools(&site, &launch, thread);
    // The later calls resume the thread, which Codex must have begun.
    site.record_when("abe#1", "its command runs", |record| {
        record.thread_id.is_some() && record.steps.iter().any(|step| step.title.contains("sleep"))
    });
    texts.extend(call_tools(&site, &later_calls, thread).1);
    let called: BTreeSet<_> = strings(&launch, "/0").chain(strings(&later_calls, "/0")).collect();
    assert_eq!(listed, called, "every tool that is listed is called here");
    let expected = [
        "Worker abe#1 launched",
        "nothing new was started",
        "abe#1",
        "abe#1 ",
        "abe#1 still running; ",
        // The answer says so if a busy machine confirms it late.
        "abe#1",
        "",
        "abe#1 cancelled",
        "abe#1 cancelled ",
        "abe#1 cancelled after",
        "nothing new",
        "Worker abe#2 launched",
        "abe#2 completed after",
        "Worker abe#3 launched",
        "abe#3 completed after",
        "abe#3",
        // The job had no branch, so it has no result.
        "abe#2",
        "abe#2",
        "abe#2",
        "abe#2",
        "status: wrong input: unknown field `jobs`",
    ];
    for (text, expected) in texts.iter().zip(expected) {
        assert!(text.contains(expected), "{expected}: {texts:#?}");
        assert!(text.lines().count() <= 30, "{text}");
    }
    assert_eq!(texts.len(), expected.len());
    let is_extended = |body: &EventBody| matches!(body, EventBody::Extended { limit_ms: 1_200_000, .. });
    let events = site.events("abe#1");
    assert!(events.iter().filter_map(|line| line.event.as_ref()).any(|event| is_extended(&event.body)));
    assert_eq!(site.record("abe#1").origin.session.map(|session| session.id), Some(thread.to_owned()));
}
