//! Secrets for hosts: who may change them, and where their values are.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use relay_tests::harness::tmux::Terminal;
use relay_tests::harness::{Engine, Site};

const CANARY: &str = "s3cret-canary-of-a-host";

/// Runs a `relay` command with a value on stdin.
fn with_value(mut command: Command, value: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that is refused does not read the value.
    let _ = child.stdin.take().unwrap().write_all(value.as_bytes());
    child.wait_with_output().unwrap()
}

/// Sets a secret. `args` are its name and flags.
pub(crate) fn set_secret(site: &Site, args: &[&str], value: &str) {
    let output = with_value(site.command(&[&["secret", "set"], args].concat()), &format!("{value}\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_secret_is_in_one_private_file_and_in_no_output() {
    let site = Site::new(Engine::Local);
    let empty = site.run(&["secret", "list"]);
    assert!(empty.status.success() && empty.stdout.is_empty(), "{empty:?}");
    set_secret(&site, &["my-api", "--host", "API.example.org", "--header", "X-Key"], CANARY);
    let listed = site.relay(&["secret", "list"]);
    assert!(listed.contains("my-api  https://api.example.org  x-key   RELAY_SECRET_MY_API_URL"), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&site.relay(&["secret", "list", "--json"])).unwrap();
    assert_eq!(json[0]["host"], "https://api.example.org");
    assert!(!listed.contains(CANARY) && !json.to_string().contains(CANARY));
    let file = site.state().join("secrets.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains(CANARY));
    assert!(site.refused(2, &["secret", "remove", "other"]).contains("there is no secret 'other'"));
    site.relay(&["secret", "remove", "my-api"]);
    assert!(!fs::read_to_string(&file).unwrap().contains(CANARY));
}

#[test]
fn mistakes_are_named_without_the_value_and_nothing_is_stored() {
    let site = Site::new(Engine::Local);
    let flags = |name, host, header| ["secret", "set", name, "--host", host, "--header", header];
    let many = "s3cret".repeat(2000);
    for (args, value, reason) in [
        (flags("My_API", "h", "X-Key"), "s3cret", "is no name of a secret"),
        (flags("a", "*.example.org", "X-Key"), "s3cret", "the host is no name or address"),
        (flags("a", "h", "Host"), "s3cret", "the header is none"),
        (flags("a", "h", "X-Key"), "s3cret\nmore", "more than one line"),
        (flags("a", "h", "X-Key"), "\n", "the value is empty"),
        (flags("a", "h", "X-Key"), &many, "longer than 8192 bytes"),
    ] {
        let output = with_value(site.command(&args), value);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(reason) && !text.contains("s3cret"), "{text}");
    }
    assert!(!site.state().join("secrets.json").exists());
}

#[test]
fn a_session_can_list_secrets_and_not_change_them() {
    let site = Site::new(Engine::Local);
    set_secret(&site, &["demo", "--host", "api.example.org", "--header", "X-Key"], CANARY);
    let file = site.state().join("secrets.json");
    let before = fs::read(&file).unwrap();
    let session = |args: &[&str]| {
        let mut command = site.command(args);
        command.env("CODEX_THREAD_ID", "01a203ca-9b3a-74f0-a0f9-92040009a617");
        with_value(command, "other")
    };
    for args in
        [&["secret", "set", "demo", "--host", "h", "--header", "X-Key"][..], &["secret", "remove", "demo"]]
    {
        let output = session(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{text}");
        assert!(text.contains(&format!("a person has to run `relay secret {} demo", args[1])), "{text}");
    }
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(session(&["secret", "list"]).status.success());
}

#[test]
fn a_terminal_does_not_show_the_value_and_is_restored() {
    let site = Site::new(Engine::Local);
    let terminal = Terminal::open(&site, 120, 30);
    let set = "relay secret set demo --host api.example.org --header X-Key";
    terminal.press(&[set, "Enter"]);
    terminal.wait_until_shown("the question", |screen| screen.contains("Value of demo"));
    terminal.press(&[CANARY, "C-c"]);
    terminal.wait_until_shown("the end", |screen| screen.contains("cancelled: no secret was stored"));
    assert!(!site.state().join("secrets.json").exists());
    terminal.press(&[set, "Enter"]);
    let screen = terminal
        .wait_until_shown("the second question", |screen| screen.matches("Value of demo").count() == 2);
    assert_eq!(screen.matches(set).count(), 2, "the terminal shows input again: {screen}");
    terminal.press(&[CANARY, "Enter"]);
    let screen = terminal.wait_until_shown("the end", |screen| screen.contains("demo is set"));
    assert!(!screen.contains(CANARY), "{screen}");
    assert!(fs::read_to_string(site.state().join("secrets.json")).unwrap().contains(CANARY));
}
