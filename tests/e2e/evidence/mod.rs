//! Expectations of a job, and the receipt that relay signs.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use common::event::FailureKind;
use common::record::State;
use common::result::ResultState;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs, until};
use serde_json::{Value, json};

use crate::places::{git, make_repository};

/// Runs a shell job that must fail because of an expectation; returns the error's message.
fn check_expectation_fails(site: &Site, line: &str, flags: &[&str]) -> String {
    let record = site.ended(&site.launch_shell(line, flags));
    let expected = (State::Failed, Some(FailureKind::ExpectationFailed));
    assert_eq!(outcome(&record), expected, "{line} {flags:?}: {:?}", record.error);
    record.error.unwrap().message
}

fn check_completes(site: &Site, line: &str, flags: &[&str]) {
    let record = site.ended(&site.launch_shell(line, flags));
    assert_eq!(outcome(&record), (State::Completed, None), "{line} {flags:?}: {:?}", record.error);
}

#[test]
fn a_job_with_an_unmet_expectation_fails_and_names_what_was_found() {
    let site = Site::up(Engine::Local);
    let root = make_repository(&site);
    for place in [&["--branch"][..], &["--in-place"]] {
        let flags = |more: &[&'static str]| [place, more].concat();
        let idle = check_expectation_fails(&site, "true", &flags(&["--expect", "commit"]));
        assert!(idle.starts_with("expected commit: HEAD has no commit since "), "{idle}");
        let text = check_expectation_fails(
            &site,
            "true",
            &flags(&["--expect", "file:out/a", "--expect", "file:kept"]),
        );
        assert_eq!(text, "expected file:out/a: it does not exist");
        let outside =
            check_expectation_fails(&site, "ln -s /etc link", &flags(&["--expect", "file:link/passwd"]));
        assert_eq!(outside, "expected file:link/passwd: its path leads out of the working folder");
        check_completes(
            &site,
            "mkdir out; echo > out/a",
            &flags(&["--expect", "file:out/a", "--expect", "change"]),
        );
        check_completes(
            &site,
            "echo > b; git add b; git -c user.name=t -c user.email=t@t commit -qm b",
            &flags(&["--expect", "commit"]),
        );
    }
    let idle = check_expectation_fails(&site, "true", &["--branch", "--expect", "change"]);
    assert!(idle.starts_with("expected change: no file differs from "), "{idle}");
    // A failed command is reported instead of an unmet expectation, and a retry keeps the expectation.
    let failed = site.ended(&site.launch_shell("exit 3", &["--branch", "--expect", "commit"]));
    assert_eq!(outcome(&failed), (State::Failed, Some(FailureKind::Exited)));
    let retried = site.relay(&["retry", &failed.job.to_string(), "-q"]);
    let spec = fs::read_to_string(site.file_path(retried.trim(), "spec")).unwrap();
    assert!(spec.contains(r#""expect":["commit"]"#), "{spec}");
    let refused = |what: &str| {
        let path = root.to_str().unwrap();
        site.refused(2, &["launch", "-w", path, "--runner", "shell", "--expect", what, "true"])
    };
    assert!(refused("commits").contains("use commit, change or file:PATH"));
    assert!(refused("file:../x").contains("without '..'"));
    let plain = site.root().join("workspace-projects/plain");
    fs::create_dir(&plain).unwrap();
    let flags =
        ["launch", "-w", plain.to_str().unwrap(), "--runner", "shell", "--expect", "commit", "-q", "true"];
    let record = site.ended(site.relay(&flags).trim());
    let message = record.error.unwrap().message;
    // The rest of the message varies: the folder of the tests may be inside of relay's own repository.
    assert!(message.starts_with("expected commit: "), "{message}");
}

/// Runs a job that makes a commit and has these checks, and waits for its result.
fn checked_job(site: &Site, checks: &[&str]) -> String {
    let checks: Vec<&str> = checks.iter().flat_map(|check| ["--check", check]).collect();
    let job = site.launch_shell(
        "echo made > made; git add made; git commit -qm made",
        &[&checks[..], &["--branch"]].concat(),
    );
    until("the result", || site.record(&job).result.filter(|result| result.state == ResultState::Open));
    job
}

fn verify(site: &Site, job: &str) -> (Option<i32>, String) {
    let output = site.run(&["verify", job]);
    let stderr = [&*output.stdout, &*output.stderr].concat();
    (output.status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn verify_runs_the_checks_again_and_compares_their_exit_codes() {
    let site = Site::up(Engine::Local);
    let root = make_repository(&site);
    let marker = site.root().join("workspace-projects/marker");
    let changing = format!("test ! -e {}", marker.display());
    let job = checked_job(&site, &["cat made; echo x > left", "date +%N", &changing]);
    let (code, text) = verify(&site, &job);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("check 1 (cat made; echo x > left): exit code 0, as in the receipt"), "{text}");
    assert!(text.contains("check 2 (date +%N): its output differs from that of the receipt"), "{text}");
    assert!(text.contains(&format!("{job} is verified")), "{text}");
    assert_eq!(
        git(&root, &["branch", "--list", "relay/verify-*"]),
        "",
        "files that the checks wrote are discarded"
    );

    fs::write(&marker, "").unwrap();
    let (code, text) = verify(&site, &job);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("NOT VERIFIED: exit code 1, but exit code 0 in the receipt"), "{text}");
    assert!(text.contains(&format!("{job} is not verified")), "{text}");

    let spec = site.file_path(&job, "spec");
    let text = fs::read_to_string(&spec).unwrap();
    fs::write(&spec, text.replace("cat made", "cat kept")).unwrap();
    assert!(verify(&site, &job).1.contains("lists other checks than the receipt"));
    fs::write(&spec, text).unwrap();

    let path = site.job_state(&job, "receipts", "json");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(9).position(|part| part == b"\"payload\"").unwrap() + 40;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    fs::write(&path, bytes).unwrap();
    let (code, text) = verify(&site, &job);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("its signature is not valid: the receipt was changed after it was signed"),
        "{text}"
    );
}

#[test]
fn a_receipt_exists_only_for_a_job_with_a_result() {
    let site = Site::up(Engine::Local);
    make_repository(&site);
    assert!(site.refused(2, &["receipt", "--public-key"]).contains("no key yet"));
    let idle = site.launch_shell("true", &["--branch"]);
    until("no result", || site.record(&idle).result);
    assert!(site.refused(2, &["receipt", &idle]).contains("it changed nothing"));
    let in_place = site.launch_shell("true", &["--in-place"]);
    site.ended(&in_place);
    assert!(site.refused(2, &["receipt", &in_place]).contains("has no branch"));
    assert!(site.refused(2, &["verify", &in_place]).contains("has no branch"));
    let failed = site.launch_shell("echo > made", &["--branch", "--check", "exit 4"]);
    until("the result", || site.record(&failed).result);
    let statement = statement(&site.relay(&["receipt", &failed]));
    assert_eq!(statement["predicate"]["result"], "FAILED");
    assert_eq!(statement["predicate"]["failedTests"], json!(["exit 4"]));
    assert_eq!(verify(&site, &failed).0, Some(0), "the check fails again");
    assert!(site.relay(&["receipt", "--public-key"]).starts_with("-----BEGIN PUBLIC KEY-----"));
}

/// Returns the statement in a receipt's envelope.
fn statement(envelope: &str) -> Value {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// Verifies a receipt with public Python packages; returns the facts of the statement, or the error.
fn verify_independently(receipt: &Path, key: &Path) -> Result<Value, String> {
    let python = env::var_os("RELAY_TEST_MCP_PYTHON");
    let python = python.unwrap_or_else(|| programs::workspace().join("target/mcp-client/bin/python").into());
    let script = programs::workspace().join("tests/e2e/evidence/verify.py");
    let output = Command::new(&python).arg(script).arg(receipt).arg(key).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}: run ./tests/run.sh", python.display()));
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
#[ignore = "needs the Python packages securesystemslib and in-toto-attestation"]
fn an_independent_verifier_accepts_a_receipt_and_refuses_it_after_one_changed_byte() {
    let site = Site::up(Engine::Local);
    let root = make_repository(&site);
    let job = checked_job(&site, &["cat made"]);
    let (receipt, key) = (site.root().join("receipt.json"), site.root().join("relay.pub"));
    fs::write(&receipt, site.relay(&["receipt", &job])).unwrap();
    fs::write(&key, site.relay(&["receipt", "--public-key"])).unwrap();
    let commit = git(&root, &["rev-parse", "relay/demo-1"]);
    let found = verify_independently(&receipt, &key).unwrap();
    let expected = json!({
        "subject": {"relay/demo-1": {"gitCommit": commit}},
        "predicate_type": "https://in-toto.io/attestation/test-result/v0.1",
        "result": "PASSED",
        "passed": ["cat made"],
        "failed": [],
        "configuration": ["job", "base", "diff", "worker", "check 1"],
    });
    assert_eq!(found, expected);

    // The command in the receipt computes the digest of the change from the commits.
    let message = statement(&fs::read_to_string(&receipt).unwrap());
    let diff = &message["predicate"]["configuration"][2];
    let command = diff["annotations"]["command"].as_str().unwrap();
    let hashed =
        Command::new("sh").current_dir(&root).args(["-c", &format!("{command} | sha256sum")]).output();
    let hashed = String::from_utf8(hashed.unwrap().stdout).unwrap();
    assert_eq!(hashed.split(' ').next(), diff["digest"]["sha256"].as_str());

    let envelope = fs::read(&receipt).unwrap();
    let payload = envelope.windows(9).position(|part| part == b"\"payload\"").unwrap();
    for at in [payload + 20, payload + 300] {
        let mut changed = envelope.clone();
        // The changed text is still base64.
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        fs::write(&receipt, changed).unwrap();
        let refused = verify_independently(&receipt, &key).unwrap_err();
        assert!(refused.contains("not verified"), "{refused}");
    }
}

/// Checks that files in the output folder of a job with these flags are kept, and that links are not.
fn check_output_is_kept(site: &Site, flags: &[&str]) {
    make_repository(site);
    let line = "echo one > $RELAY_OUTPUT/a; mkdir $RELAY_OUTPUT/sub; printf 'two\\000' > $RELAY_OUTPUT/sub/b; \
                ln -s /etc/passwd $RELAY_OUTPUT/link; echo $RELAY_JOB; ls $RELAY_OUTPUT";
    let job = site.launch_shell(line, &[flags, &["--check", "cp $RELAY_OUTPUT/a $RELAY_OUTPUT/c"]].concat());
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert!(site.log(&job).contains(&format!("{job}\na\nlink\nsub\n")), "{}", site.log(&job));
    assert_eq!(record.warnings.newest, ["output that is not kept: link is a symbolic link"]);
    assert_eq!(site.relay(&["output", &job]), "           4  a\n           4  c\n           4  sub/b\n");
    assert_eq!(site.relay(&["output", &job, "sub/b"]), "two\0");
    let listed = site.relay(&["output", &job, "--json"]);
    assert!(listed.contains(r#"{"name":"sub/b","size":4}"#), "{listed}");
    assert!(site.refused(2, &["output", &job, "link"]).contains("left no file 'link'"));
    let idle = site.launch_shell("true", flags);
    site.ended(&idle);
    assert_eq!(site.relay(&["output", &idle]), "");
    assert!(site.refused(2, &["output", &idle, "a"]).contains("left no output"));
}

#[test]
fn files_in_the_output_folder_are_kept_with_the_job() {
    let site = Site::up(Engine::Local);
    check_output_is_kept(&site, &["--branch"]);
    let job = site.launch_running("echo > $RELAY_OUTPUT/a; echo written; sleep 1000", &["--in-place"]);
    until("the file", || site.log(&job).contains("written").then_some(()));
    assert!(site.refused(2, &["output", &job]).contains("has not ended"));
    site.relay(&["cancel", &job]);
    site.ended(&job);
    assert_eq!(site.relay(&["output", &job]), "           1  a\n", "a cancelled job keeps its output");
    let left: Vec<_> = fs::read_dir(site.state().join("agent.outputs")).unwrap().collect();
    assert_eq!(left.len(), 0, "{left:?}");
}

#[test]
#[ignore = "needs Docker"]
fn files_in_the_output_folder_are_kept_from_a_container_and_without_a_clone() {
    check_output_is_kept(&Site::up(Engine::Docker), &["--in-place"]);
}

/// A PNG image of one pixel, in base64.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Returns the number of session files of Codex that contain an image.
fn threads_with_images(site: &Site) -> usize {
    let mut folders = vec![site.codex_home().join("sessions")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                count +=
                    usize::from(fs::read_to_string(&path).unwrap_or_default().contains("data:image/png"));
            }
        }
    }
    count
}

#[test]
#[ignore = "needs the real Codex"]
fn an_image_reaches_the_model_also_in_a_retry() {
    let (_model, site) = crate::codex::site(Engine::Local, "127.0.0.1");
    let image = site.root().join("pixel");
    fs::write(&image, BASE64_STANDARD.decode(PNG).unwrap()).unwrap();
    let path = image.to_str().unwrap();
    let launch =
        ["launch", "-q", "-w", "workspace-projects/demo", "-i", path, "[script:quick] Look at this."];
    let job = site.relay(&launch).trim().to_owned();
    // The job has a copy of the image, so the file can be removed.
    fs::remove_file(&image).unwrap();
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert_eq!(threads_with_images(&site), 1);
    let retried = site.relay(&["retry", "-q", &job]).trim().to_owned();
    assert_eq!(outcome(&site.ended(&retried)), (State::Completed, None), "{}", site.log(&retried));
    assert_eq!(threads_with_images(&site), 2);
    let refused = site.refused(2, &launch);
    assert!(refused.contains("pixel: does not exist"), "{refused}");
}
