//! Approval of settings: only a person can approve them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use relay_tests::harness::tmux::Terminal;
use relay_tests::harness::{Engine, Site, programs};

/// Variable that marks a session of a host agent.
const THREAD: (&str, &str) = ("CODEX_THREAD_ID", "01a203ca-9b3a-74f0-a0f9-92040009a617");

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_notifier_that_a_session_adds_does_not_run_when_a_person_launches_later() {
    let site = Site::up(Engine::Local);
    site.configure("[notify]\ncommand = [\"touch\", \"ran\"]\n");
    site.relay(&["down"]);
    let launch = ["launch", "--runner", "shell", "-w", "workspace-projects/demo", "true"];
    let output = site.plain_command(&launch).output().unwrap();
    let told = said(&output);
    assert!(
        output.status.success() && told.contains("has changed since the settings were approved"),
        "{told}"
    );
    assert!(told.contains("relay up"), "{told}");
    assert!(refused(site.plain_command(&["up"])).contains("--yes"));
    assert!(refused(site.plain_command(&["serve"])).contains("--yes"));
    assert!(!site.root().join("ran").exists());
    assert_eq!(site.record("demo#1").state, common::record::State::Queued);
    // A session may choose the settings for jobs.
    site.configure("[limits]\njob = \"1h\"\n");
    assert!(site.plain_command(&launch).output().unwrap().status.success());
    site.ended("demo#1");
}

#[test]
fn nobody_agrees_off_a_terminal_or_in_a_session() {
    let site = Site::new(Engine::Local);
    let off = refused(site.plain_command(&["up"]));
    assert!(off.contains("have not been approved yet") && off.contains("--yes"), "{off}");
    for args in [&["up"][..], &["up", "--yes"], &["up", "--yes", "--no-start"], &["serve", "--yes"]] {
        let mut command = site.plain_command(args);
        command.env(THREAD.0, THREAD.1);
        let said = refused(command);
        assert!(said.contains("a person has to"), "{args:?}: {said}");
    }
    // A command line can remove a variable, but not its ancestor processes.
    let host = site.root().join("codex");
    fs::copy("/bin/sh", &host).unwrap();
    fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).unwrap();
    let mut below = site.environment(Command::new(&host));
    let relay = programs::dir().join("relay");
    below.args(["-c", &format!("{} up --yes; exit $?", relay.display())]).current_dir(site.root());
    assert!(refused(below).contains("a person has to"));
    assert!(!site.registry().join("relay.json").exists());
    site.relay(&["up"]);
    let mut session = site.plain_command(&["up"]);
    assert!(session.env(THREAD.0, THREAD.1).output().unwrap().status.success(), "what is agreed to goes on");
}

#[test]
fn a_person_at_a_terminal_is_shown_what_changed_and_asked() {
    let site = Site::new(Engine::Local);
    site.approve();
    site.configure("[notify]\ndesktop = true\n");
    let terminal = Terminal::open(&site, 120, 30);
    terminal.press(&["relay up", "Enter"]);
    let asked = terminal.shows("the question", |screen| screen.contains("[y/N]"));
    assert!(asked.contains("+ notify.desktop = true"), "{asked}");
    terminal.press(&["n", "Enter"]);
    terminal.shows("the refusal", |screen| screen.contains("not approved"));
    assert!(!site.registry().join("relay.json").exists());
    terminal.press(&["relay up", "Enter"]);
    terminal.shows("the second question", |screen| screen.matches("[y/N]").count() == 2);
    terminal.press(&["y", "Enter"]);
    terminal.shows("the relay", |screen| screen.contains("relay is up: engine local"));
    // One approval is enough.
    assert!(site.plain_command(&["up"]).output().unwrap().status.success());
}

#[test]
fn doctor_runs_no_program_that_settings_name_before_they_are_approved() {
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
    let doctor = site.plain_command(&["doctor"]).output().unwrap();
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.contains("was not run: the settings are not approved"), "{told}");
    assert!(!ran.exists(), "{told}");
    let mut session = site.plain_command(&["doctor"]);
    let told = session.env(THREAD.0, THREAD.1).output().unwrap().stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("settings are not approved") && told.contains("a person has to run"), "{told}");
    site.approve();
    site.plain_command(&["doctor"]).output().unwrap();
    assert!(ran.exists());
}

#[test]
fn the_engine_is_that_of_the_settings_or_the_consent_whatever_the_lease_says() {
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
    let output =
        site.plain_command(&["run", "-w", "workspace-projects/demo", "--", "true"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(site.record("demo#1").engine, "local");
    site.relay(&["down"]);
}

#[test]
fn a_daemon_is_started_with_the_settings_that_were_agreed_to_or_not_at_all() {
    let site = Site::new(Engine::Local);
    site.approve();
    let other = "0".repeat(64);
    let changed = refused(site.plain_command(&["serve", "--approved-digest", &other]));
    assert!(changed.contains("has changed"), "{changed}");
    let mut session = site.plain_command(&["doctor"]);
    site.configure("[codex]\nprogram = \"./evil\"\n");
    let listed = session.env(THREAD.0, THREAD.1).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("the settings changed since they were approved"), "{listed}");
    site.configure("");
}
