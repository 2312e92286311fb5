//! Jobs of the real Codex in a clone of their own, with both engines: from the task to the merged branch.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::record::State;
use common::result::ResultState;
use relay_tests::harness::docker::gateway;
use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::model::Model;
use relay_tests::harness::repository::git;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until};

/// Returns the model's script: it edits, tries to write `outside`, waits for `go`, commits, and adds a file.
fn script(go: &str, outside: &str) -> String {
    let commands = |line: &str| serde_json::json!({"commands": [{"cmd": line}]});
    serde_json::json!({"name": "place", "turns": [
        commands("pwd; cat mine; echo first >> kept; date +edited:%s%N"),
        commands(&format!("echo x > {outside} || echo contained")),
        commands(&format!("until test -e {go}; do sleep 0.05; done")),
        commands("git commit -qam 'First edit' && git log --format=%s -1"),
        {"patch": "*** Begin Patch\n*** Add File: note.txt\n+written by the worker\n*** End Patch"},
        {"message": "Edited and committed."},
    ]})
    .to_string()
}

/// Runs a whole task and merges its branch. `go` is the file that the model waits for, `outside` a file that it must
/// not be able to write; both are paths of the worker.
fn run_and_merge_task(site: &Site, address: &str, go: &str, outside: &str) {
    let scripts = tempfile::tempdir().unwrap();
    fs::write(scripts.path().join("place.json"), script(go, outside)).unwrap();
    let model = Model::with_scripts(env!("CARGO_BIN_EXE_scripted-model"), address, scripts.path());
    model.write_codex_home(site.codex_home());
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    site.write("workspace-projects/demo/kept", "kept\n");
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    site.write("workspace-projects/demo/mine", "uncommitted\n");
    git(&root, &["config", "user.name", "t"]);
    git(&root, &["config", "user.email", "t@example.com"]);
    site.relay(&["up"]);
    let launch =
        ["launch", "-q", "--branch", "-w", "workspace-projects/demo", "[script:place] Edit and commit."];
    let job = site.relay(&launch).trim().to_owned();
    let seen_at = until("the first edit is in the diff", || {
        let record = site.record(&job);
        assert!(!record.state.is_final(), "{record:#?}\n{}", site.log(&job));
        let shown = site.run(&["diff", &job]);
        let is_seen = String::from_utf8_lossy(&shown.stdout).contains("\n+first\n");
        is_seen.then(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
    });
    site.write("workspace-projects/go", "");
    let record = site.ended(&job);
    let log = site.log(&job);
    let edited_at = log.lines().find_map(|line| line.trim().strip_prefix("edited:")?.parse().ok()).unwrap();
    let delay = seen_at.saturating_sub(Duration::from_nanos(edited_at));
    assert_eq!(outcome(&record), (State::Completed, None), "{log}");
    assert!(log.contains("uncommitted\n") && log.contains("contained"), "{log}");
    let result = until("the result", || site.record(&job).result);
    assert_eq!((&*result.branch, result.commits, result.files), ("relay/demo-1", 2, 2), "{log}");
    let subjects = git(&root, &["log", "--format=%s", "relay/demo-1"]);
    let expected = "relay: uncommitted changes\nFirst edit\nrelay: uncommitted files\nbase";
    assert_eq!(subjects, expected);
    // The uncommitted changes are part of the branch.
    fs::remove_file(root.join("mine")).unwrap();
    site.relay(&["merge", &job]);
    assert_eq!(site.record(&job).result.map(|result| result.state), Some(ResultState::Merged));
    assert_eq!(fs::read_to_string(root.join("kept")).unwrap(), "kept\nfirst\n");
    assert_eq!(fs::read_to_string(root.join("note.txt")).unwrap(), "written by the worker\n");
    figure(&format!("an edit of the real Codex was in `relay diff` {} after it", ms(delay)));
}

#[test]
#[ignore = "needs the real Codex"]
fn a_task_of_the_real_codex_in_its_sandbox_comes_back_as_a_branch_and_is_merged() {
    let site = Site::new(Engine::Local);
    site.configure_in_sandbox("");
    let go = site.root().join("workspace-projects/go").display().to_string();
    let outside = site.root().join("outside").display().to_string();
    run_and_merge_task(&site, "127.0.0.1", &go, &outside);
    assert!(!site.root().join("outside").exists());
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_task_of_the_real_codex_in_a_container_comes_back_as_a_branch_and_is_merged() {
    let site = Site::new(Engine::Docker);
    run_and_merge_task(&site, &gateway(), "/workspaces/go", "/proc/outside");
}
