//! Jobs in the same folder: they run one at a time, unless they share the folder or work in a clone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::record::State;
use relay_tests::harness::{Engine, Site, until};

/// Command line that runs until the file `go` is in the workspace.
const WAIT_FOR_GO: &str = "until test -e go; do sleep 0.02; done";

fn launch(site: &Site, folder: &str, flags: &[&str], line: &str) -> String {
    site.relay(&[&["launch", "--runner", "shell", "-w", folder][..], flags, &[line]].concat())
}

#[test]
fn a_second_job_in_a_folder_waits_and_names_the_first() {
    let site = Site::up(Engine::Local);
    site.write("workspace-projects/demo/sub/file", "");
    let demo = "workspace-projects/demo";
    site.launch_running(WAIT_FOR_GO, &["-n", "first"]);
    let waits = |job: &str| {
        format!("queued: waits for {job}, which works in the same folder; --branch runs beside it\n")
    };
    let text = launch(&site, demo, &["-n", "second"], "echo second");
    assert_eq!(text, format!("Worker second#1 launched; ask for status anytime.\n{}", waits("first#1")));
    // A folder inside of the other one counts as the same, and so does a link to a folder.
    std::os::unix::fs::symlink("demo/sub", site.root().join("workspace-projects/link")).unwrap();
    let text = launch(&site, "workspace-projects/link", &["-n", "third"], "echo third");
    assert!(text.ends_with(&waits("second#1")), "{text}");
    // Jobs in other folders don't wait.
    site.write("workspace-projects/other/file", "");
    launch(&site, "workspace-projects/other", &["-n", "other"], "true");
    assert_eq!(site.ended("other#1").state, State::Completed);

    let status = site.relay(&["status", "second"]);
    assert!(status.contains(waits("first#1").trim_start_matches("queued: ").trim()), "{status}");
    let record = site.record("second#1");
    assert_eq!(record.waiting.map(|reason| format!("queued: {reason}\n")), Some(waits("first#1")));
    // After a restart the relay still knows which job works in the folder.
    site.relay(&["restart"]);
    site.record_when("first#1", "is seen again", |record| {
        record.link == Some(common::record::Link::Connected)
    });
    assert_eq!(site.record("second#1").state, State::Queued);
    site.relay(&["cancel", "second"]);
    site.record_when("third#1", "waits for the first job", |record| {
        record.waiting.as_ref().is_some_and(|reason| reason.contains("first#1"))
    });
    site.write("workspace-projects/demo/go", "");
    let third = site.ended("third#1");
    assert_eq!((third.state, third.waiting), (State::Completed, None));
    assert_eq!(site.ended("first#1").state, State::Completed);
    assert!(third.started_at > site.record("first#1").finished_at, "the jobs ran one after the other");
    assert_eq!(site.record("second#1").started_at, None);
}

#[test]
fn jobs_with_share_or_a_branch_run_beside_the_first_and_others_say_why_they_wait() {
    let site = Site::up(Engine::Local);
    init_repository(&site);
    let demo = site.workspace();
    let demo = demo.to_string_lossy();
    site.launch_running(WAIT_FOR_GO, &["-n", "first"]);
    for (name, flag) in [("shared", "--share"), ("branch", "--branch")] {
        launch(&site, &demo, &["-n", name, flag], "true");
        assert_eq!(site.ended(&format!("{name}#1")).state, State::Completed, "{name}");
    }
    assert_eq!(site.relay(&["run", "--share", "-w", &demo, "-n", "beside", "--", "echo beside"]), "beside\n");
    let refused = site.refused(2, &["launch", "--share", "--branch", "-w", &demo, "x"]);
    assert!(refused.contains("--share") && refused.contains("--branch"), "{refused}");

    let mut run = site.command(&["run", "-w", &demo, "-n", "ran", "--", "echo ran"]);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    BufReader::new(run.stderr.as_mut().unwrap()).read_line(&mut text).unwrap();
    let expected = "relay: ran#1 is queued: waits for first#1, which works in the same folder; --branch runs beside it\n";
    assert_eq!(text, expected);
    site.write("workspace-projects/demo/go", "");
    let output = run.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n");
    assert_eq!(output.status.code(), Some(0));
    // A retry does not wait for the job that it repeats, which has ended.
    site.relay(&["retry", "first"]);
    assert_eq!(site.ended("first#2").state, State::Completed);
}

#[test]
fn jobs_that_run_one_after_the_other_report_only_their_own_changes() {
    let site = Site::up(Engine::Local);
    init_repository(&site);
    // All jobs are queued at once, and none of them commits.
    let jobs: Vec<String> = (1..=5)
        .map(|n| {
            let line = format!("echo {n} >>README; echo {n} >new-{n}");
            let text = launch(&site, "workspace-projects/demo", &["-q"], &line);
            text.trim().to_owned()
        })
        .collect();
    for job in &jobs {
        let changes = site.ended(job).changes.unwrap();
        assert_eq!((changes.files, changes.insertions, changes.deletions), (2, 1, 0), "{job}");
    }
    let nothing = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&nothing).changes.map(|changes| changes.files), Some(0));
}

/// Makes the workspace a repository with one commit.
fn init_repository(site: &Site) {
    let git = "git init -q -b main . && git add README && git -c user.name=t -c user.email=t@e commit -qm x";
    assert!(Command::new("sh").args(["-ec", git]).current_dir(site.workspace()).status().unwrap().success());
}

#[test]
fn jobs_that_edit_a_folder_at_the_same_time_name_each_other_wherever_changes_are_shown() {
    let site = Site::up(Engine::Local);
    init_repository(&site);
    let line = |n: u32| format!("echo {n} >>README; echo {n} >new-{n}; {WAIT_FOR_GO}");
    site.launch_running(&line(1), &["-n", "first"]);
    site.launch_running(&line(2), &["-n", "second"]);
    until("both jobs have written", || (site.workspace().join("new-2").exists()).then_some(()));
    assert_eq!(site.record("first#1").shared_with, ["second#1".parse().unwrap()]);
    // The relay still knows it after a restart.
    site.relay(&["restart"]);
    site.write("workspace-projects/demo/go", "");
    for (job, other) in [("first#1", "second#1"), ("second#1", "first#1")] {
        let record = site.ended(job);
        assert_eq!(record.shared_with, [other.parse().unwrap()], "{job}");
        let sentence = format!("; {other} worked in the same folder at the same time)");
        let summary = record.summary.unwrap();
        assert!(summary.contains(&sentence), "{summary}");
        let status = site.relay(&["status", job]);
        assert!(
            status.lines().any(|line| line.starts_with("changes ") && line.ends_with(&sentence)),
            "{status}"
        );
        let explanation = site.relay(&["explain", job]);
        let sign = format!("folder shared: {other} worked in the same folder at the same time");
        assert!(explanation.contains(&sign), "{explanation}");
        let events = site.relay(&["events", job]);
        assert_eq!(events.matches(&format!("folder_shared with {other}\n")).count(), 1, "{events}");
        assert_eq!(record.warnings.count, 0, "{job} has no expectations");
    }
    assert!(
        site.record("first#1").changes.unwrap().files >= 3,
        "the changes of the other job are among them"
    );
    let notices = site.notices_of(&["first#1", "second#1"]);
    assert_eq!(notices.matches("#1 worked in the same folder at the same time)").count(), 2, "{notices}");
    let table = site.relay(&["compare", "first", "second"]);
    assert!(table.contains("(shared with second#1)") && table.contains("(shared with first#1)"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&site.relay(&["compare", "--json", "first"])).unwrap();
    assert_eq!(json["shared_with"], serde_json::json!(["second#1"]));

    // A job that only follows the others names none, although it may share the folder.
    site.launch_shell("echo 3 >new-3", &["-n", "third"]);
    let third = site.ended("third#1");
    assert_eq!((third.changes.unwrap().files, third.shared_with.len()), (1, 0));
    assert!(!site.relay(&["status", "third"]).contains("same folder"));
}

#[test]
fn an_expectation_that_another_job_may_have_met_is_a_warning() {
    let site = Site::up(Engine::Local);
    init_repository(&site);
    let commit = "git -c user.name=t -c user.email=t@e commit -q --allow-empty -m y";
    site.launch_running(WAIT_FOR_GO, &["-n", "idle", "--expect", "commit", "--expect", "file:go"]);
    site.launch_shell(commit, &["-n", "busy"]);
    assert_eq!(site.ended("busy#1").state, State::Completed);
    site.write("workspace-projects/demo/go", "");
    let idle = site.ended("idle#1");
    assert_eq!(idle.describe_outcome(), "completed with 1 warning");
    let expected = "busy#1 worked in the same folder at the same time, so what was expected may be its work: commit, file:go";
    assert_eq!(idle.warnings.newest, [expected]);
    assert!(site.notices_of(&["idle#1"]).contains(expected));
    // A job that works alone is not doubted.
    let alone = site.launch_shell(commit, &["-n", "alone", "--expect", "commit"]);
    assert_eq!(site.ended(&alone).describe_outcome(), "completed");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_worktree_of_a_repository_outside_of_the_project_is_refused_without_branch() {
    let site = Site::new(Engine::Local);
    site.configure_in_sandbox("");
    let tree = site.root().join("workspace-projects/tree");
    let elsewhere = site.state_home().join("elsewhere");
    let line = format!(
        "git init -q -b main '{0}'; cd '{0}'; echo a >a; git add a; git -c user.name=t -c user.email=t@e commit -qm x; \
         git worktree add -q '{1}'",
        elsewhere.display(),
        tree.display()
    );
    assert!(Command::new("sh").args(["-ec", &line]).status().unwrap().success());
    site.relay(&["up"]);
    let tree = tree.to_string_lossy();
    let refused = site.refused(2, &["launch", "--runner", "shell", "-w", &tree, "true"]);
    assert!(
        refused.contains("is a linked worktree or submodule, and its repository ")
            && refused.ends_with("is outside of the folders that jobs may write: `relay launch --branch` works in a clone of it"),
        "{refused}"
    );
    assert_eq!(site.refused(2, &["run", "-w", &tree, "--", "true"]), refused);
    launch(&site, &tree, &["-n", "clone", "--branch"], "echo b >b");
    assert_eq!(site.ended("clone#1").state, State::Completed, "{}", site.log("clone#1"));
    assert_eq!(until("the result", || site.record("clone#1").result).files, 1);
}
