//! Follow-ups of jobs with a clone: `resume` continues in the clone, `retry` starts from the same commit.

use std::fs;

use common::record::State;
use relay_tests::harness::model::Model;

use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until};

use crate::places::git;

/// Scripts of the model: each has a name and the command that it runs.
const SCRIPTS: [(&str, &str); 3] = [
    ("first", "pwd; cat file; echo built > built.o; echo one > one"),
    (
        "second",
        "pwd; cat file built.o one; git branch --show-current; git status --porcelain; echo two > two",
    ),
    ("third", "cat file one two; ls built.o; echo three > three"),
];

/// Waits for the end of a job; returns its log and the commit of its result.
fn wait_for_log_and_result(site: &Site, job: &str) -> (String, Option<String>) {
    let record = site.ended(job);
    // The log indents the output of commands.
    let log = site.log(job).replace("    ", "");
    assert_eq!(outcome(&record), (State::Completed, None), "{log}");
    (log, until("the result", || site.record(job).result).commit)
}

#[test]
#[ignore = "needs the real Codex"]
fn a_resumed_job_uses_the_same_clone_and_a_retry_starts_from_the_same_commit() {
    let site = Site::new(Engine::Local);
    site.configure_in_sandbox("");
    let scripts = tempfile::tempdir().unwrap();
    for (name, command) in SCRIPTS {
        let script = serde_json::json!({"name": name, "turns": [
            {"commands": [{"cmd": command}]}, {"message": "Done."}
        ]});
        fs::write(scripts.path().join(format!("{name}.json")), script.to_string()).unwrap();
    }
    let model = Model::with_scripts(env!("CARGO_BIN_EXE_scripted-model"), "127.0.0.1", scripts.path());
    model.write_codex_home(site.codex_home());
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    site.write("workspace-projects/demo/.gitignore", "*.o\n");
    site.write("workspace-projects/demo/file", "committed\n");
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    site.write("workspace-projects/demo/file", "uncommitted\n");
    site.relay(&["up"]);
    let launch = ["launch", "-q", "--branch", "-w", "workspace-projects/demo", "[script:first] Go."];
    let first = site.relay(&launch).trim().to_owned();
    let (first_log, first_result) = wait_for_log_and_result(&site, &first);
    // Follow-up jobs don't get changes that the caller makes after the first launch.
    site.write("workspace-projects/demo/file", "changed since\n");

    let second = site.relay(&["resume", "-q", &first, "[script:second] Go on."]).trim().to_owned();
    let (second_log, second_result) = wait_for_log_and_result(&site, &second);
    assert!(second_log.contains("uncommitted\nbuilt\none\nrelay/demo-2\n"), "{second_log}");
    let folder = |log: &str| log.lines().find(|line| line.ends_with("/demo.1")).map(str::to_owned);
    assert!(folder(&first_log).is_some(), "{first_log}");
    assert_eq!(folder(&first_log), folder(&second_log), "{second_log}");
    assert_eq!(git(&root, &["rev-parse", "relay/demo-2^"]), first_result.unwrap());
    assert_eq!(git(&root, &["diff", "--name-only", "relay/demo-1", "relay/demo-2"]), "two");

    // After the clone is removed, the next job gets a new one.
    let places = site.root().join(folder(&first_log).unwrap());
    until("the clone is kept", || places.with_file_name("demo.1.kept").exists().then_some(()));
    fs::remove_dir_all(&places).unwrap();
    let third = site.relay(&["resume", "-q", &second, "[script:third] Go on."]).trim().to_owned();
    let (third_log, _) = wait_for_log_and_result(&site, &third);
    assert!(
        third_log.contains("uncommitted\none\ntwo\n") && third_log.contains("cannot access"),
        "{third_log}"
    );
    assert_eq!(git(&root, &["rev-parse", "relay/demo-3^"]), second_result.unwrap());

    let repeated = site.relay(&["retry", "-q", &first]).trim().to_owned();
    let (log, _) = wait_for_log_and_result(&site, &repeated);
    assert!(log.contains("uncommitted\n"), "{log}");
    assert_eq!(
        git(&root, &["rev-parse", "relay/demo-4^"]),
        git(&root, &["rev-parse", "relay/demo-1^"]),
        "both start from the commit of the uncommitted files"
    );
}
