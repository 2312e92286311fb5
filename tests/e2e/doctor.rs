//! `relay doctor`: it lists all checks, and reports each problem with its fix.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::model::Model;
use relay_tests::harness::sandbox::{self, WORKSPACE_WRITE};
use relay_tests::harness::{Engine, Site, processes, programs, until};
use serde_json::Value;

use super::codex;

const RULES: &str = "prefix_rule(pattern = [\"relay\", [\"up\", \"down\"]], decision = \"allow\")\n";

/// Creates a project in which every check can succeed, without starting its relay.
fn healthy_site() -> (Model, Site) {
    let (model, site) = codex::site(Engine::Local, "127.0.0.1");
    site.write_home(".bash_profile", &format!("PATH={}:$PATH\n", programs::dir().display()));
    site.write(".codex/rules/relay.rules", RULES);
    let config = site.codex_home().join("config.toml");
    let trust = format!("\n[projects.\"{}\"]\ntrust_level = \"trusted\"\n", site.root().display());
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &trust).unwrap();
    (model, site)
}

fn doctor(site: &Site, flags: &[&str]) -> Command {
    let mut command = site.command(&[&["doctor"], flags].concat());
    command.env("SHELL", "/bin/bash").env("LC_ALL", "C.UTF-8").env_remove("DOCKER_HOST");
    command
}

/// Returns the findings in the JSON lines of an output. Checks that each has exactly the documented fields.
fn findings(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let findings: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for finding in &findings {
        let fields: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["check", "state", "detail", "fix"]);
        let state = finding["state"].as_str().unwrap();
        assert!(["ok", "skipped", "warn", "fail"].contains(&state), "{finding}");
        assert_eq!(finding["fix"].is_string(), ["warn", "fail"].contains(&state), "{finding}");
        assert!(finding["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{finding}");
    }
    findings
}

/// Runs a `doctor` command; returns state, detail and fix of one check, and the exit code.
fn run_check(command: &mut Command, check: &str) -> (String, String, String, Option<i32>) {
    let output = command.output().unwrap();
    let found = findings(&output).into_iter().find(|finding| finding["check"] == check).unwrap();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("detail"), text("fix"), output.status.code())
}

#[test]
#[ignore = "needs the real Codex"]
fn a_healthy_project_has_no_failed_check() {
    let (_model, site) = healthy_site();
    site.relay(&["up"]);
    let output = doctor(&site, &["--json"]).output().unwrap();
    let states: Vec<String> = findings(&output)
        .iter()
        // Free space, free memory and free watches depend on this machine.
        .filter(|finding| !matches!(finding["check"].as_str(), Some("disk" | "machine" | "inotify")))
        .map(|finding| format!("{}: {}", finding["check"], finding["state"]).replace('"', ""))
        .collect();
    let expected = [
        "settings: ok",
        "approval: ok",
        "workspaces: ok",
        "limits: skipped",
        // The machine of these tests can't create Codex's sandbox.
        "sandbox: warn",
        "isolation: skipped",
        "network: skipped",
        "registry: ok",
        "relay: ok",
        "queue: ok",
        "engine: ok",
        "image: skipped",
        "mount: skipped",
        "agent: ok",
        "codex: ok",
        "code-mode-host: ok",
        "credentials: ok",
        "rules: ok",
        "login-shell: ok",
        "clock: ok",
        "deliveries: ok",
    ];
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(states, expected, "{stdout}");
    assert_eq!(output.status.code(), Some(0));
    assert!(!stdout.contains("sk-"), "{stdout}");
    let list = doctor(&site, &[]).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("✓ settings") && list.lines().count() <= 30, "{list}");
    let plain = doctor(&site, &[]).env("LC_ALL", "C").output().unwrap();
    assert!(String::from_utf8_lossy(&plain.stdout).starts_with("ok   settings"));
}

#[test]
#[ignore = "needs the real Codex"]
fn doctor_in_a_sandbox_names_the_checks_that_it_can_not_do() {
    let (_model, site) = healthy_site();
    site.write("platform/relay.toml", "[platform]\nengine = \"docker\"\n");
    let script = "LC_ALL=C.UTF-8 relay doctor --json; echo $? > code";
    let output = sandbox::run(&site, &WORKSPACE_WRITE, script);
    for check in ["engine", "image", "mount"] {
        let found = findings(&output).into_iter().find(|finding| finding["check"] == check).unwrap();
        assert_eq!((&found["state"], &found["detail"]), (&"skipped".into(), &"inside a sandbox".into()));
    }
    let mut inner = sandbox::command(&site, &site.workspace(), &WORKSPACE_WRITE, "relay doctor --json");
    let (state, detail, fix, code) = run_check(&mut inner, "registry");
    assert_eq!((&state[..], code), ("fail", Some(5)), "{detail}");
    assert!(
        detail.ends_with("can't be written inside of this sandbox") && fix.contains("--add-dir"),
        "{fix}"
    );
    site.write("platform/relay.toml", "[platform]\nengine = \"local\"\n");
}

#[test]
fn an_engine_that_hangs_is_named_and_its_processes_are_ended() {
    let site = Site::new(Engine::Local);
    site.write("platform/relay.toml", "[platform]\nengine = \"docker\"\n");
    site.write("fake/docker", "#!/bin/sh\nsleep 7654 & sleep 7654\n");
    let fake = site.root().join("fake");
    std::fs::set_permissions(fake.join("docker"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", fake.display(), std::env::var("PATH").unwrap());
    let started = Instant::now();
    let (state, detail, fix, code) = run_check(doctor(&site, &["--json"]).env("PATH", path), "engine");
    let took = started.elapsed();
    figure(&format!("doctor: with an engine that hangs all checks took {} (at most 6 s)", ms(took)));
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!((&state[..], code), ("fail", Some(5)));
    assert_eq!(detail, "docker does not answer: no answer within 5 s");
    assert!(fix.contains("colima start"), "{fix}");
    until("the fake docker is gone", || processes::running("sleep 7654").is_empty().then_some(()));
    let (_, detail, fix, _) = run_check(doctor(&site, &["--json"]).env("PATH", "/nowhere"), "engine");
    assert!(detail.contains("it is not installed") && fix.contains("--engine local"), "{detail}: {fix}");
    site.write("platform/relay.toml", "[platform]\nengine = \"local\"\n");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_codex_that_is_missing_or_incomplete_is_named() {
    let (_model, site) = healthy_site();
    site.configure("[codex]\nprogram = \"no-such-codex\"\n");
    let (state, detail, fix, code) = run_check(&mut doctor(&site, &["--json"]), "codex");
    assert_eq!((&state[..], &detail[..]), ("fail", "no-such-codex was not found: only shell jobs can run"));
    assert!(fix.contains("npm install -g @openai/codex") && code == Some(5), "{fix}");
    let incomplete = site.state_home().join("codex");
    let real = programs::codex();
    std::fs::hard_link(&real, &incomplete).or_else(|_| std::fs::copy(&real, &incomplete).map(drop)).unwrap();
    site.configure(&format!("[codex]\nprogram = \"{}\"\n", incomplete.display()));
    site.approve();
    let (state, detail, fix, code) = run_check(&mut doctor(&site, &["--json"]), "code-mode-host");
    assert_eq!((&state[..], code), ("fail", Some(5)), "{detail}");
    assert!(
        detail.contains("newer models can't use tools") && fix.contains("npm install"),
        "{detail}: {fix}"
    );
}

#[test]
fn a_relay_that_died_is_named_with_the_command_that_starts_a_new_one() {
    let site = Site::up(Engine::Local);
    let pid = site.daemon_pid();
    processes::kill(pid);
    until("the relay is dead", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    let (state, detail, fix, code) = run_check(&mut doctor(&site, &["--json"]), "relay");
    assert_eq!((&state[..], code), ("fail", Some(5)), "{detail}");
    assert!(detail.starts_with(&format!("process {pid} has died, last heard of ")), "{detail}");
    assert!(fix.starts_with("`relay up` starts a new one"), "{fix}");
    site.relay(&["up"]);
    let (state, detail, ..) = run_check(&mut doctor(&site, &["--json"]), "relay");
    assert_eq!(state, "ok", "{detail}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_mistake_in_the_rules_that_keeps_codex_from_starting_is_named_with_its_file() {
    let (_model, site) = healthy_site();
    site.approve();
    site.write(".codex/rules/mine.rules", "prefix_rule(pattern=[\n");
    let (state, detail, fix, code) = run_check(&mut doctor(&site, &["--json"]), "rules");
    assert_eq!((&state[..], code), ("fail", Some(5)), "{detail}");
    assert!(detail.contains("mine.rules") && fix.contains("`relay init`"), "{detail}: {fix}");
    site.write(".codex/rules/mine.rules", "");
    site.write(
        ".codex/rules/relay.rules",
        "prefix_rule(pattern = [\"relay\", \"status\"], decision = \"allow\")\n",
    );
    let (state, detail, ..) = run_check(&mut doctor(&site, &["--json"]), "rules");
    assert_eq!(
        (&state[..], &detail[..]),
        ("warn", "`relay up` may not run outside of the sandbox: no rule matches")
    );
}
