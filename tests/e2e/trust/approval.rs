//! Approval of settings, which only a person can give.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use relay_tests::harness::tmux::Terminal;
use relay_tests::harness::{Engine, Site, programs};

/// Variable, with its value, that marks a session of Codex.
const SESSION_VARIABLE: (&str, &str) = ("CODEX_THREAD_ID", "01a203ca-9b3a-74f0-a0f9-92040009a617");

fn stderr_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must fail with exit code 5 and one line on stderr; returns the line.
fn check_refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let stderr = stderr_text(&output);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn a_notify_command_that_a_session_adds_does_not_run_after_a_later_launch() {
    let site = Site::up(Engine::Local);
    site.configure("[notify]\ncommand = [\"touch\", \"ran\"]\n");
    site.relay(&["down"]);
    let launch = ["launch", "--runner", "shell", "-w", "workspace-projects/demo", "true"];
    let output = site.command_without_approval(&launch).output().unwrap();
    let text = stderr_text(&output);
    assert!(
        output.status.success() && text.contains("has changed since the settings were approved"),
        "{text}"
    );
    assert!(text.contains("relay up"), "{text}");
    assert!(check_refused(site.command_without_approval(&["up"])).contains("--yes"));
    assert!(check_refused(site.command_without_approval(&["serve"])).contains("--yes"));
    assert!(!site.root().join("ran").exists());
    assert_eq!(site.record("demo#1").state, common::record::State::Queued);
    // A session may change `[limits]` without an approval.
    site.configure("[limits]\njob = \"1h\"\n");
    assert!(site.command_without_approval(&launch).output().unwrap().status.success());
    site.ended("demo#1");
}

#[test]
fn settings_can_not_be_approved_without_a_terminal_or_in_a_session() {
    let site = Site::new(Engine::Local);
    let off = check_refused(site.command_without_approval(&["up"]));
    assert!(off.contains("have not been approved yet") && off.contains("--yes"), "{off}");
    for args in [&["up"][..], &["up", "--yes"], &["up", "--yes", "--no-start"], &["serve", "--yes"]] {
        let mut command = site.command_without_approval(args);
        command.env(SESSION_VARIABLE.0, SESSION_VARIABLE.1);
        let stderr = check_refused(command);
        assert!(stderr.contains("a person has to"), "{args:?}: {stderr}");
    }
    // A session can remove the variable, but relay also recognises a `codex` among its ancestor processes.
    let host = site.root().join("codex");
    fs::copy("/bin/sh", &host).unwrap();
    fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).unwrap();
    let mut below = site.environment(Command::new(&host));
    let relay = programs::dir().join("relay");
    below.args(["-c", &format!("{} up --yes; exit $?", relay.display())]).current_dir(site.root());
    assert!(check_refused(below).contains("a person has to"));
    assert!(!site.registry().join("relay.json").exists());
    site.relay(&["up"]);
    let mut session = site.command_without_approval(&["up"]);
    assert!(
        session.env(SESSION_VARIABLE.0, SESSION_VARIABLE.1).output().unwrap().status.success(),
        "a session may start a relay with approved settings"
    );
}

#[test]
fn relay_up_at_a_terminal_shows_the_changed_settings_and_asks() {
    let site = Site::new(Engine::Local);
    site.approve();
    site.configure("[notify]\ndesktop = true\n");
    let terminal = Terminal::open(&site, 120, 30);
    terminal.press(&["relay up", "Enter"]);
    let asked = terminal.wait_until_shown("the question", |screen| screen.contains("[y/N]"));
    assert!(asked.contains("+ notify.desktop = true"), "{asked}");
    terminal.press(&["n", "Enter"]);
    terminal.wait_until_shown("the refusal", |screen| screen.contains("not approved"));
    assert!(!site.registry().join("relay.json").exists());
    terminal.press(&["relay up", "Enter"]);
    terminal.wait_until_shown("the second question", |screen| screen.matches("[y/N]").count() == 2);
    terminal.press(&["y", "Enter"]);
    terminal.wait_until_shown("the relay", |screen| screen.contains("relay is up: engine local"));
    // The same settings need no second approval.
    assert!(site.command_without_approval(&["up"]).output().unwrap().status.success());
}

#[test]
fn relay_doctor_runs_no_program_of_settings_that_are_not_approved() {
    let site = Site::new(Engine::Local);
    site.approve();
    let ran = site.root().join("ran");
    let program = site.state_home().join("planted");
    let script = format!("#!/bin/sh\ntouch '{}'\necho codex-cli 0.169.0\n", ran.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let text = format!("[codex]\nprogram = \"{0}\"\n[notify]\ncodex = \"{0}\"\n", program.display());
    site.configure(&text);
    fs::create_dir_all(site.root().join(".codex/rules")).unwrap();
    fs::write(site.root().join(".codex/rules/relay.rules"), "").unwrap();
    let doctor = site.command_without_approval(&["doctor"]).output().unwrap();
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("was not run: the settings are not approved"), "{text}");
    assert!(!ran.exists(), "{text}");
    let mut session = site.command_without_approval(&["doctor"]);
    let text = session.env(SESSION_VARIABLE.0, SESSION_VARIABLE.1).output().unwrap().stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("settings are not approved") && text.contains("a person has to run"), "{text}");
    site.approve();
    site.command_without_approval(&["doctor"]).output().unwrap();
    assert!(ran.exists());
}

#[test]
fn the_engine_is_taken_from_the_approved_settings_and_not_from_the_lease() {
    let site = Site::new(Engine::Local);
    site.write(
        "platform/relay.toml",
        "[platform]\nname = \"relay-test-lease\"\n[codex]\nsandbox = \"off\"\n",
    );
    site.relay(&["up", "--engine", "local"]);
    site.relay(&["down"]);
    let lease = site.registry().join("relay.json");
    let forged = fs::read_to_string(&lease).unwrap().replace("\"local\"", "\"podman\"");
    fs::write(&lease, forged).unwrap();
    let output = site
        .command_without_approval(&["run", "-w", "workspace-projects/demo", "--", "true"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr_text(&output));
    assert_eq!(site.record("demo#1").engine, "local");
    site.relay(&["down"]);
}

#[test]
fn a_daemon_does_not_start_if_the_settings_have_changed_since_the_approval() {
    let site = Site::new(Engine::Local);
    site.approve();
    let other = "0".repeat(64);
    let changed = check_refused(site.command_without_approval(&["serve", "--approved-digest", &other]));
    assert!(changed.contains("has changed"), "{changed}");
    let mut session = site.command_without_approval(&["doctor"]);
    site.configure("[codex]\nprogram = \"./evil\"\n");
    let listed = session.env(SESSION_VARIABLE.0, SESSION_VARIABLE.1).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("the settings changed since they were approved"), "{listed}");
    site.configure("");
}
