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
    let demo = site.workspace();
    let git = "git init -q -b main . && git add README && git -c user.name=t -c user.email=t@e commit -qm x";
    assert!(Command::new("sh").args(["-ec", git]).current_dir(&demo).status().unwrap().success());
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
    let git = "git init -q -b main . && git add README && git -c user.name=t -c user.email=t@e commit -qm x";
    assert!(Command::new("sh").args(["-ec", git]).current_dir(site.workspace()).status().unwrap().success());
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
