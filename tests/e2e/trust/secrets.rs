//! Masking of secrets: a secret reaches the worker that needs it, and is in no file and no output of relay.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::docker::gateway;
use relay_tests::harness::model::Model;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until};
use serde_json::json;

use crate::codex;

/// Secret with characters that many encodings change.
const CANARY: &str = r#"s3cr3t+Canary/42="päss" & end"#;
/// Secret that can be the name of a file.
const FILE_CANARY: &str = "c4nary-in-a-file-name";

/// Python program that prints [`CANARY`] in many encodings, in two pieces and on stderr.
const PRINT_PROGRAM: &str = r#"
import base64, json, os, re, sys, urllib.parse
v = os.environ["CANARY"]
b = v.encode()
basic = ("user:" + v).encode()
for text in [v, json.dumps(v), json.dumps(v, ensure_ascii=False), json.dumps(json.dumps(v)), json.dumps(json.dumps(json.dumps(v))),
             urllib.parse.quote(v), urllib.parse.quote(v, safe=""), urllib.parse.quote_plus(v), re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(v)),
             base64.b64encode(b).decode(), base64.b64encode(basic).decode(), base64.urlsafe_b64encode(b"x" + basic).decode(),
             base64.urlsafe_b64encode(b"xy" + basic).decode().rstrip("="), base64.encodebytes(b"-" * 40 + basic).decode(),
             b.hex(), b.hex().upper(), b.hex(" ")]:
    print("<" + text + ">", flush=True)
for place in [1, 4, 9, len(b) - 1]:
    os.write(1, b"two pieces " + b[:place])
    os.write(1, b[place:] + b"\n")
sys.stdout.flush()
print("complaint about " + v, file=sys.stderr)
print("printed all")
"#;

/// Returns the encoded forms of a secret that must not be found.
fn forms_of(value: &str) -> Vec<String> {
    let json = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let ascii = json(value).replace('ä', "\\u00e4");
    let mut all = vec![value.to_owned(), json(value), json(&json(value)), ascii.clone(), json(&ascii)];
    let percent = |plain: &str, upper: bool| -> String {
        let spelled = |byte: u8| match char::from(byte) {
            c if c.is_ascii_alphanumeric() || plain.contains(c) => c.to_string(),
            _ if upper => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        };
        value.bytes().map(spelled).collect()
    };
    for upper in [true, false] {
        all.extend([percent("-_.~", upper), percent("-_.~/", upper)]);
        all.push(percent("-_.~", upper).replace("%20", "+"));
    }
    for (shift, shared) in [(0, 0), (1, 2), (2, 3)] {
        let text = format!("{}{value}", "x".repeat(shift));
        let whole = text.len() * 8 / 6;
        all.extend(
            [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)]
                .map(|e| e[shared..whole].to_owned()),
        );
    }
    let hex = hex::encode(value);
    let spaced: Vec<String> = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    all.extend([hex.to_uppercase(), hex, spaced.join(" ")]);
    all
}

fn check_no_secret(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let joined = text.replace("\\n", "").replace('\n', "");
    for value in [CANARY, FILE_CANARY] {
        for form in forms_of(value) {
            assert!(!text.contains(&form) && !joined.contains(&form), "{what} holds {form}:\n{text}");
        }
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Checks that no file of relay or agent, and no output of relay about a job, contains a secret.
fn check_files_and_commands(site: &Site, job: &str) {
    let mut found = Vec::new();
    files(&site.root().join("platform"), &mut found);
    let copy = site.workspace().join(".codex-worker");
    files(&copy, &mut found);
    assert!(found.iter().any(|path| path.ends_with("log.txt")), "{found:?}");
    for path in &found {
        check_no_secret(&path.display().to_string(), &fs::read(path).unwrap_or_default());
        if path.starts_with(&copy) {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        }
    }
    for args in [
        &["status", job][..],
        &["status", "--json", job],
        &["status", "-a"],
        &["logs", job, "-n", "100000"],
        &["events", job],
        &["events", "--json", job],
        &["explain", job],
        &["wait", job],
        &["notices", "--peek"],
    ] {
        let output = site.run(args);
        check_no_secret(&format!("{args:?}"), &[output.stdout, output.stderr].concat());
    }
}

/// Checks that the agent's state folder in a container contains no secret.
fn check_container(site: &Site) {
    let mut tar = Command::new("docker");
    tar.args(["exec", &site.container(), "tar", "-c", "/var/lib/worker-agent"]);
    let output = tar.output().unwrap();
    assert!(output.stdout.len() > 1000, "{}", String::from_utf8_lossy(&output.stderr));
    check_no_secret("the agent's state", &output.stdout);
}

/// Launches a job that gets both secrets from the caller's environment, by `--env NAME`.
fn launch(site: &Site, args: &[&str]) -> String {
    launch_in(site, "workspace-projects/demo", args)
}

fn launch_in(site: &Site, workspace: &str, args: &[&str]) -> String {
    let mut command = site.command(&["launch", "-q", "-w", workspace]);
    command.args(["--env", "CANARY", "--env", "FILE_CANARY"]).args(args);
    let output = command.env("CANARY", CANARY).env("FILE_CANARY", FILE_CANARY).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn check_shell_job(site: &Site) {
    site.write("workspace-projects/demo/print.py", PRINT_PROGRAM);
    let check = "echo \"the key is $CANARY\"; false";
    let setup = "echo \"set up with $CANARY\"";
    let job =
        launch(site, &["--runner", "shell", "--setup", setup, "--check", check, "python3 print.py; env"]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::CheckFailed)), "{}", site.log(&job));
    let message = record.error.unwrap().message;
    assert!(message.ends_with("the key is ***CANARY***"), "{message}");
    let log = site.log(&job);
    assert!(log.contains("printed all") && log.contains("complaint about ***CANARY***"), "{log}");
    assert_eq!(log.matches("two pieces ***CANARY***\n").count(), 4, "{log}");
    assert!(log.contains("CANARY=***CANARY***") && log.contains("set up with ***CANARY***"), "{log}");
    check_files_and_commands(site, &job);
}

/// Creates a folder with the script of a model that puts the secrets into everything that Codex reports.
fn model_scripts() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let patch = format!("*** Begin Patch\n*** Add File: {FILE_CANARY}.txt\n+{CANARY}\n*** End Patch");
    let script = json!({"name": "spills", "turns": [
        {"reasoning": format!("The key is {CANARY}."), "commands": [{"cmd": "python3 print.py"}]},
        {"commands": [{"cmd": format!("git clone -q 'file:///nowhere/{CANARY}'; echo cloned")}]},
        {"patch": patch},
        {"message": format!("All done with {CANARY} and {FILE_CANARY}.")},
    ]});
    fs::write(dir.path().join("spills.json"), script.to_string()).unwrap();
    dir
}

fn check_codex_job(engine: Engine, address: &str) -> Site {
    let scripts = model_scripts();
    // Only the model's scripts differ from those of other tests.
    let (_, site) = codex::site(engine, address);
    let model = Model::with_scripts(env!("CARGO_BIN_EXE_scripted-model"), address, scripts.path());
    model.write_codex_home(site.codex_home());
    site.write("workspace-projects/demo/print.py", PRINT_PROGRAM);
    let job = launch(&site, &["[script:spills] Spill."]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert_eq!(record.message.as_deref(), Some("All done with ***CANARY*** and ***FILE_CANARY***."));
    let titles: Vec<&str> = record.steps.iter().map(|step| step.title.as_str()).collect();
    assert!(titles.iter().any(|title| title.contains("***CANARY***")), "{titles:?}");
    let log = site.log(&job);
    assert!(log.contains("printed all") && log.contains("***FILE_CANARY***.txt"), "{log}");
    check_files_and_commands(&site, &job);
    site
}

#[test]
fn a_secret_that_a_shell_job_prints_is_in_no_file_and_no_output() {
    let site = Site::up(Engine::Local);
    check_shell_job(&site);
}

#[test]
#[ignore = "needs Docker"]
fn a_secret_that_a_job_in_a_container_prints_is_in_no_file_and_no_output() {
    let site = Site::up(Engine::Docker);
    check_shell_job(&site);
    check_container(&site);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_secret_that_codex_reports_is_in_no_file_and_no_output() {
    check_codex_job(Engine::Local, "127.0.0.1");
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_secret_that_codex_in_a_container_reports_is_in_no_file_and_no_output() {
    let site = check_codex_job(Engine::Docker, &gateway());
    check_container(&site);
}

/// Secrets, with the names of their variables, that programs print in parts or in other spellings.
const TRICKY_SECRETS: [(&str, &str); 4] = [
    (
        "ACCOUNT",
        r#"{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQc4n4ry+kqhkiG9w0\n-----END PRIVATE KEY-----\n", "client_secret": "GOCSPX-c4n4ry"}"#,
    ),
    ("DATABASE_URL", "postgres://me:p%40ss%2Fc4n4ry@db/shop"),
    ("CLONE_URL", "https://ghp_16C7e42Fc4n4ry6912E7710c838347@github.example/x"),
    ("PHRASE", r#"it's "c4n4ry" & more"#),
];

/// Python program that prints parts and spellings of the [`TRICKY_SECRETS`].
const SPILL_PROGRAM: &str = r#"
import base64, html, json, os, sys, urllib.parse
account = json.loads(os.environ["ACCOUNT"])
print(account["type"], account["private_key"], account["client_secret"])
print(urllib.parse.unquote(urllib.parse.urlsplit(os.environ["DATABASE_URL"]).password))
print(urllib.parse.urlsplit(os.environ["CLONE_URL"]).username)
v = os.environ["PHRASE"]
for text in [v.replace("c4n", "c4\x1b[01;31m\x1b[Kn\x1b[m\x1b[K"), html.escape(v), v.replace("'", "''"), v.replace('"', '""'),
             urllib.parse.quote(urllib.parse.quote(v)), "".join("\\u%04x" % ord(c) for c in v),
             base64.b64encode(v.encode("utf-16-le")).decode()]:
    print("<" + text + ">")
print("spilled all")
"#;

#[test]
fn parts_and_spellings_of_secrets_that_programs_print_are_masked() {
    let site = Site::up(Engine::Local);
    site.write("workspace-projects/demo/spill.py", SPILL_PROGRAM);
    let mut command = site.command(&["launch", "-q", "-w", "workspace-projects/demo", "--runner", "shell"]);
    for (name, value) in TRICKY_SECRETS {
        command.args(["--env", name]).env(name, value);
    }
    let output = command
        .arg("python3 spill.py; bash -xc ': \"$PHRASE\"; printf \"<%q>\\n\" \"$PHRASE\"'")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let job = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.log(&job));
    let log = site.log(&job);
    assert!(log.contains("service_account ") && log.contains("spilled all"), "{log}");
    for (name, value) in TRICKY_SECRETS {
        assert!(log.contains(&format!("***{name}***")), "{name}: {log}");
        assert!(!log.contains(value), "{name}: {log}");
    }
    // These are the seven spellings of the program and one of printf.
    assert_eq!(log.matches("<***PHRASE***").count(), 8, "{log}");
    assert!(log.matches("'***PHRASE***'").count() >= 2, "{log}");
    for form in ["4n4ry", "\\u0063", "c4\u{1b}", "MIIEvQ", "ghp_", "yADQAbgA0"] {
        assert!(!log.contains(form), "{form}: {log}");
    }
}

/// Returns the content of a job's spec.
fn spec(site: &Site, job: &str) -> String {
    fs::read_to_string(site.file_path(job, "spec")).unwrap()
}

/// Creates a site whose only slot is used by a job until the file `go` exists; also returns that job.
fn busy_site() -> (Site, String) {
    let site = Site::new(Engine::Local);
    site.write(
        "platform/relay.toml",
        "[platform]\nengine = \"local\"\nmax_jobs = 1\n[codex]\nsandbox = \"off\"\n",
    );
    site.relay(&["up"]);
    let first = site.launch_shell("until test -e go; do sleep 0.05; done", &["-n", "first"]);
    site.record_when(&first, "running", |record| record.state == State::Running);
    (site, first)
}

#[test]
fn environment_values_are_removed_from_the_disk_when_a_queued_job_is_cancelled() {
    let (site, first) = busy_site();
    let job = launch(&site, &["--runner", "shell", "echo never"]);
    assert!(spec(&site, &job).contains(FILE_CANARY), "the queue keeps the values");
    site.relay(&["cancel", &job]);
    assert_eq!(outcome(&site.ended(&job)), (State::Cancelled, None));
    let spec = spec(&site, &job);
    assert!(!spec.contains(FILE_CANARY) && spec.contains("FILE_CANARY"), "{spec}");
    site.write("workspace-projects/demo/go", "");
    site.ended(&first);
    check_files_and_commands(&site, &job);
}

#[test]
fn environment_values_are_removed_from_the_disk_when_a_queued_job_is_refused() {
    let (site, first) = busy_site();
    site.write("workspace-projects/gone/file", "");
    let job = launch_in(&site, "workspace-projects/gone", &["--runner", "shell", "echo never"]);
    assert!(spec(&site, &job).contains(FILE_CANARY), "the queue keeps the values");
    fs::remove_dir_all(site.root().join("workspace-projects/gone")).unwrap();
    site.write("workspace-projects/demo/go", "");
    site.ended(&first);
    assert_eq!(outcome(&site.ended(&job)), (State::Failed, Some(FailureKind::Refused)));
    let spec = spec(&site, &job);
    assert!(!spec.contains(FILE_CANARY) && spec.contains("FILE_CANARY"), "{spec}");
}

#[test]
fn a_starting_relay_removes_environment_values_that_a_killed_one_left() {
    let site = Site::up(Engine::Local);
    let job = launch(&site, &["--runner", "shell", "true"]);
    site.ended(&job);
    site.relay(&["down"]);
    // The test restores the spec as a relay leaves it that is killed before it removes the values.
    let path = site.file_path(&job, "spec");
    let mut left: serde_json::Value = serde_json::from_str(&spec(&site, &job)).unwrap();
    left["env"] = json!({"FILE_CANARY": FILE_CANARY});
    fs::write(&path, left.to_string()).unwrap();
    site.relay(&["up"]);
    until("the values are gone", || (!spec(&site, &job).contains(FILE_CANARY)).then_some(()));
}
