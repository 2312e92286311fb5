//! Jobs that complete with warnings: every command that reports the outcome also reports the warnings.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use common::event::{EventBody, FailureKind, StepOutcome};
use common::record::{JobRecord, State};
use relay_tests::harness::model::Model;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs};

/// Creates a site whose workers are the real Codex, with a model that plays a script.
fn site_with_script(script: &serde_json::Value) -> (Model, Site) {
    let site = Site::new(Engine::Local);
    site.write("scripts/it.json", &script.to_string());
    let scripts = site.root().join("scripts");
    let model = Model::with_scripts(env!("CARGO_BIN_EXE_scripted-model"), "127.0.0.1", &scripts);
    model.write_codex_home(site.codex_home());
    site.configure(&format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", programs::codex().display()));
    (model, site)
}

fn script_of(commands: &[&str]) -> serde_json::Value {
    let turns = commands.iter().map(|cmd| serde_json::json!({"commands": [{"cmd": cmd}]}));
    let turns: Vec<_> = turns.chain([serde_json::json!({"message": "Done."})]).collect();
    serde_json::json!({"name": "it", "turns": turns})
}

fn launch(site: &Site, flags: &[&str]) -> JobRecord {
    let args = ["launch", "-q", "-w", "workspace-projects/demo"];
    let job = site.relay(&[&args[..], flags, &["[script:it] Do it."]].concat()).trim().to_owned();
    site.ended(&job)
}

/// Checks that a job completed with `count` warnings, and that every command that reports the outcome says so.
fn check_warnings_reported(site: &Site, record: &JobRecord, count: u32) {
    assert_eq!(outcome(record), (State::Completed, None), "{}", site.log("demo"));
    assert_eq!((record.warnings.count, record.warnings.newest.len()), (count, count as usize), "{record:#?}");
    let words = if count == 1 {
        "completed with 1 warning".to_owned()
    } else {
        format!("completed with {count} warnings")
    };
    let job = record.job.to_string();
    let list = words.trim_start_matches("completed ");
    for (args, words) in [
        (&["status", &job][..], words.as_str()),
        (&["status"], list),
        (&["explain", &job], &words),
        (&["wait", &job], &words),
        (&["wait", "--json", &job], &format!("\"warnings\":{{\"count\":{count},")),
    ] {
        let stdout = site.relay(args);
        assert!(stdout.contains(words), "{args:?}: {stdout}");
    }
    let status = site.relay(&["status", &job]);
    assert!(record.warnings.newest.iter().all(|warning| status.contains(&warning[..40])), "{status}");
}

#[test]
#[ignore = "needs the real Codex"]
fn an_mcp_server_that_is_missing_dies_or_hangs_is_a_warning_with_its_name() {
    let (_model, site) = site_with_script(&script_of(&["sleep 1"]));
    let config = site.codex_home().join("config.toml");
    let servers = "\n[mcp_servers.missing]\ncommand = \"/no/such/program\"\n\
                   [mcp_servers.dies]\ncommand = \"sh\"\nargs = [\"-c\", \"exit 3\"]\n\
                   [mcp_servers.hangs]\ncommand = \"sleep\"\nargs = [\"1000\"]\n\
                   [mcp_servers.unused]\ncommand = \"/no/such/program\"\nenabled = false\n";
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + servers).unwrap();
    let record = launch(&site, &[]);
    check_warnings_reported(&site, &record, 3);
    for words in [
        "the MCP server missing did not start",
        "the MCP server dies did not start",
        "the MCP server hangs had not started",
    ] {
        assert!(record.warnings.newest.iter().any(|warning| warning.contains(words)), "{words}: {record:#?}");
    }
    assert!(!site.log("demo").contains("rmcp"), "{}", site.log("demo"));
}

#[test]
#[ignore = "needs the real Codex"]
fn a_command_still_running_at_the_end_of_the_turn_is_named_in_a_warning() {
    let script = serde_json::json!({"name": "it", "turns": [
        {"commands": [{"cmd": "make all; sleep 600", "background": true, "yield_time_ms": 500}]},
        {"message": "Done."}
    ]});
    let (_model, site) = site_with_script(&script);
    let args = ["launch", "-q", "-w", "workspace-projects/demo", "[script:it] Do it."];
    let job = site.relay(&args).trim().to_owned();
    let record = site.ended(&job);
    let notice = site.notices_of(&[&job]);
    assert!(notice.starts_with("relay: worker demo#1 completed with 1 warning in "), "{notice}");
    assert!(notice.contains("> warning: still running when the worker's turn ended"), "{notice}");
    check_warnings_reported(&site, &record, 1);
}

/// Script that runs instead of a future version of Codex: it prints items and events that relay does not know.
const NEWER_CODEX: &str = r#"#!/bin/sh
case $1 in --version) echo codex-cli 9.0.0; exit;; esac
cat >/dev/null
echo '{"type":"thread.started","thread_id":"01a203ca-9b3a-74f0-a0f9-92040009a617"}'
echo '{"type":"turn.started"}'
echo '{"type":"item.completed","item":{"id":"item_0","type":"levitation","height":3}}'
echo '{"type":"weather.changed","to":"sunny"}'
echo '{"type":"turn.completed","spent":{"in":5}}'
"#;

#[test]
fn unknown_lines_of_codex_are_counted_in_a_warning_and_unknown_usage_is_not_shown() {
    let site = Site::new(Engine::Local);
    site.write_home("bin/codex", NEWER_CODEX);
    let program = site.home().join("bin/codex");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    site.configure(&format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", program.display()));
    site.write_codex("auth.json", "{}");
    let job = site.relay(&["launch", "-q", "-w", "workspace-projects/demo", "Do it."]).trim().to_owned();
    let record = site.ended(&job);
    let notice = site.notices_of(&[&job]);
    assert!(notice.contains("completed with 1 warning in ") && !notice.contains("tokens:"), "{notice}");
    assert!(notice.contains("> warning: 2 lines of codex 9.0.0 not understood"), "{notice}");
    check_warnings_reported(&site, &record, 1);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_model_that_fails_once_and_then_answers_leaves_no_warning_in_the_record() {
    let turns = serde_json::json!([{"disconnect": true, "times": 1}, {"message": "Done."}]);
    let (_model, site) = site_with_script(&serde_json::json!({"name": "it", "turns": turns}));
    let patience = ["--", "-c", "model_providers.scripted.stream_max_retries=5"];
    let args = ["launch", "-q", "-w", "workspace-projects/demo", "[script:it] Do it."];
    let job = site.relay(&[&args[..], &patience].concat()).trim().to_owned();
    let record = site.ended(&job);
    assert_eq!(
        (record.describe_outcome().as_str(), &record.warning),
        ("completed", &None),
        "{}",
        site.log(&job)
    );
    let events = site.relay(&["events", &job]);
    assert!(events.contains("warning codex retries (1/5"), "{events}");
}

/// Runs a job that repeats a failing command seven times; returns its record.
fn run_failing_loop(flags: &[&str]) -> (Model, Site, JobRecord) {
    let (model, site) = site_with_script(&script_of(&["false --circle"; 7]));
    let record = launch(&site, flags);
    (model, site, record)
}

#[test]
#[ignore = "needs the real Codex"]
fn a_worker_that_repeats_a_failing_step_completes_with_a_warning() {
    let (_model, site, record) = run_failing_loop(&[]);
    check_warnings_reported(&site, &record, 1);
    assert!(
        record.warnings.newest[0].starts_with("no progress: the same step failed 5 times"),
        "{record:#?}"
    );
}

#[test]
#[ignore = "needs the real Codex"]
fn a_worker_that_repeats_a_failing_step_is_ended_with_on_loop_fail() {
    let (_model, site, record) = run_failing_loop(&["--on-loop", "fail"]);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::NoProgress)), "{}", site.log("demo"));
    let error = record.error.clone().unwrap();
    assert!(error.message.contains("the same step failed 5 times: false --circle"), "{error:?}");
    let failed = record.steps.iter().filter(|step| step.outcome == Some(StepOutcome::Failed)).count();
    assert!((5..7).contains(&failed) && error.step.is_some(), "{record:#?}");
    assert_eq!(record.cleanup.map(|cleanup| cleanup.survivors), Some(0));
    let explained = site.relay(&["explain", "demo"]);
    assert!(explained.contains("relay retry demo#1 --on-loop warn"), "{explained}");
    // A retry keeps the option unless a flag changes it.
    let retried = site.relay(&["retry", "-q", "demo", "--on-loop", "warn"]).trim().to_owned();
    assert_eq!(site.ended(&retried).describe_outcome(), "completed with 1 warning");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_worker_s_codex_contacts_only_the_server_of_its_model() {
    let (_model, site) = site_with_script(&script_of(&["echo proxy=$HTTPS_PROXY"]));
    // These settings are removed from the user's configuration: relay itself must switch them off.
    let config = site.codex_home().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text
        .replace("check_for_update_on_startup = false\n", "")
        .replace("[analytics]\nenabled = false\n", "");
    std::fs::write(&config, text).unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let calls = Arc::new(Mutex::new(Vec::new()));
    std::thread::spawn({
        let calls = Arc::clone(&calls);
        move || {
            for call in proxy.incoming().flatten() {
                let mut line = String::new();
                let _ = BufReader::new(call).read_line(&mut line);
                calls.lock().unwrap().push(line);
            }
        }
    });
    let mut up = site.command(&["up"]);
    up.env("NO_PROXY", "127.0.0.1,localhost");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        up.env(name, &address);
    }
    assert!(up.output().unwrap().status.success());
    let record = launch(&site, &[]);
    assert_eq!((outcome(&record), record.warnings.count), ((State::Completed, None), 0), "{record:#?}");
    assert!(site.log("demo").contains(&format!("proxy={address}")), "{}", site.log("demo"));
    assert_eq!(*calls.lock().unwrap(), [""; 0]);
    let warned = site.events("demo#1").into_iter().filter_map(|line| line.event);
    assert!(!warned.into_iter().any(|event| matches!(event.body, EventBody::Warning { .. })));
}
