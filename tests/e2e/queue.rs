//! Jobs that wait for other jobs (`--after`) or for a slot of their group, and commands for many jobs at once.

use std::fs;
use std::path::Path;
use std::process::Command;

use common::event::FailureKind;
use common::record::{JobRecord, State};
use common::result::ResultState;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until};

/// Runs a git command that must succeed; returns its stdout.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "safe.directory=*"];
    let output = Command::new("git").current_dir(folder).args(settings).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Creates a site with additional settings, and starts its relay.
fn site_with_settings(settings: &str) -> Site {
    let site = Site::new(Engine::Local);
    site.configure(settings);
    site.relay(&["up", "--yes"]);
    site
}

/// Waits until `relay status` gives this reason for waiting.
fn wait_for_reason(site: &Site, job: &str, reason: &str) {
    until(&format!("{job} {reason}"), || {
        let shown = site.relay(&["status", job]);
        shown.contains(&format!("waits      {reason}")).then_some(())
    });
}

/// Returns a command line that runs until a file exists.
fn line_until_file(name: &str) -> String {
    format!("until test -e {name}; do sleep 0.05; done")
}

#[test]
fn a_job_starts_after_others_have_completed_and_fails_if_one_of_them_does_not() {
    let site = site_with_settings("max_jobs = 8\n");
    let first = site.launch_running(&line_until_file("go"), &["-n", "first"]);
    let second = site.launch_running(&line_until_file("go"), &["-n", "second"]);
    let both = site.launch_shell("echo done", &["-n", "both", "--after", "first", "--after", &second]);
    let chain = site.launch_shell("true", &["-n", "chain", "--after", &both]);
    let cancelled = site.launch_shell("true", &["-n", "cancelled", "--after", &both]);
    wait_for_reason(&site, &both, "waits for first#1 and 1 more (--after)");
    wait_for_reason(&site, &chain, "waits for both#1 (--after)");
    assert!(site.relay(&["cancel", &cancelled]).contains("cancelled#1 cancelled"));

    // After a restart the relay knows from the records what each job waits for.
    site.relay(&["restart"]);
    wait_for_reason(&site, &both, "waits for first#1 and 1 more (--after)");
    site.write("workspace-projects/demo/go", "");
    for job in [&first, &second, &both, &chain] {
        assert_eq!(outcome(&site.ended(job)), (State::Completed, None), "{job}");
    }
    let [before, after] = [&second, &both].map(|job| site.record(job));
    assert!(before.finished_at <= after.started_at, "{before:?} {after:?}");
    // A job does not wait for one that has already completed.
    assert_eq!(site.ended(&site.launch_shell("true", &["--after", &first])).state, State::Completed);

    let bad = site.launch_shell("exit 3", &["-n", "bad"]);
    let last = site.launch_shell("true", &["-n", "last", "--after", "bad"]);
    let tail = site.launch_shell("true", &["-n", "tail", "--after", &last]);
    for (job, dependency) in [(&last, &bad), (&tail, &last)] {
        let record = site.ended(job);
        assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::DependencyFailed)), "{job}");
        let message = record.error.unwrap().message;
        assert!(message.starts_with(&format!("{dependency} failed: ")), "{message}");
    }
    let retried = site.relay(&["retry", "-q", &bad]);
    let record = site.ended(&site.launch_shell("true", &["-n", "last", "--after", &bad]));
    assert_eq!(record.error.map(|error| error.kind), Some(FailureKind::DependencyFailed), "{retried}");
    let workspace = site.workspace().to_string_lossy().into_owned();
    let missing = site.refused(3, &["launch", "-q", "-w", &workspace, "--after", "nobody", "x"]);
    assert!(missing.contains("no job 'nobody'"), "{missing}");
}

#[test]
fn no_more_jobs_of_a_group_run_at_once_than_its_limit_allows() {
    let site = site_with_settings("max_jobs = 8\n[groups]\ngpu = 2\n");
    let launch = |group: &str| site.launch_shell(&line_until_file("go"), &["--group", group]);
    let jobs: Vec<String> = (0..4).map(|_| launch("gpu")).collect();
    let other = launch("free");
    for job in [&jobs[0], &jobs[1], &other] {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    for job in &jobs[2..] {
        wait_for_reason(&site, job, "waits for a free slot of group gpu (2 of 2 run)");
    }
    assert!(site.relay(&["status", &jobs[0]]).contains("group      gpu"));
    site.relay(&["restart"]);
    site.relay(&["cancel", &jobs[0]]);
    site.record_when(&jobs[2], "runs", |record| record.state == State::Running);
    wait_for_reason(&site, &jobs[3], "waits for a free slot of group gpu (2 of 2 run)");

    let cancelled = site.relay(&["cancel", "--group", "gpu"]);
    assert_eq!(cancelled.lines().count(), 3, "{cancelled}");
    assert_eq!(site.record(&other).state, State::Running);
    assert!(site.relay(&["cancel", "--all"]).contains("cancelled"));
    assert_eq!(site.record(&other).state, State::Cancelled);
    let nothing = site.run(&["cancel", "--all"]);
    assert!(
        nothing.status.success() && String::from_utf8_lossy(&nothing.stderr).contains("no job is queued")
    );
    site.refused(3, &["cancel", "--group", "nobody"]);
    assert_eq!(site.run(&["wait", "--group", "gpu"]).status.code(), Some(130));
}

#[test]
fn failed_jobs_are_retried_in_order_and_status_filters_by_state_time_group_and_text() {
    let site = site_with_settings("max_jobs = 4\n");
    let bad = site.launch_shell("test -e fixed", &["-n", "bad", "--group", "night"]);
    let later = site.launch_shell("echo the needle", &["-n", "later", "--after", &bad, "--group", "night"]);
    let fine = site.launch_shell("true", &["-n", "fine"]);
    let other = site.launch_shell("exit 1", &["-n", "other"]);
    for job in [&bad, &later, &fine, &other] {
        site.ended(job);
    }
    let found = |args: &[&str]| -> Vec<String> {
        let json = site.relay(&[&["status", "--json"], args].concat());
        let records = json.lines().map(|line| serde_json::from_str::<JobRecord>(line).unwrap());
        records.map(|record| record.job.to_string()).collect()
    };
    assert_eq!(found(&["--state", "failed", "--group", "night"]), ["later#1", "bad#1"]);
    assert_eq!(found(&["--state", "completed,cancelled", "--since", "1h"]), ["fine#1"]);
    assert_eq!(found(&["--grep", "NEEDLE"]), ["later#1"]);
    assert_eq!(found(&["--grep", "FINE"]), ["fine#1"]);
    assert_eq!(found(&["--since", "1ms"]), [""; 0]);
    let listed = site.relay(&["status", "--state", "failed", "-n", "1"]);
    assert_eq!(listed.lines().filter(|line| line.contains("#1")).count(), 1, "{listed}");

    site.write("workspace-projects/demo/fixed", "");
    let retried = site.relay(&["retry", "--failed", "--group", "night", "-q"]);
    assert_eq!(retried, "bad#2\nlater#2\n");
    let record = site.ended("later#2");
    assert_eq!(outcome(&record), (State::Completed, None));
    assert_eq!(record.after, ["bad#2".parse().unwrap()]);
    assert_eq!(record.group, Some("night".parse().unwrap()));
    // The jobs of the group have a follow-up now, so they are not retried again.
    assert_eq!(site.relay(&["retry", "--failed", "--since", "1h", "-q"]), "other#2\n");
}

fn as_strs(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// Makes the workspace a repository with one commit.
fn make_repository(site: &Site) {
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    site.write("workspace-projects/demo/file", "one\n");
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "first"]);
}

#[test]
fn a_job_can_start_from_the_result_of_another_one() {
    let site = site_with_settings("max_jobs = 8\n");
    make_repository(&site);
    let root = site.workspace();
    let go = root.join("go");
    let wait_for_go = format!("until test -e {}; do sleep 0.05; done", go.display());
    let change = |text: &str| format!("{wait_for_go}; echo {text} >> file; git commit -qam {text}");
    let first = site.launch_running(&change("two"), &["-n", "first", "--branch"]);
    let second = site
        .launch_shell(&change("three"), &["-n", "second", "--branch", "--after", "first", "--base", &first]);
    let third = site.launch_shell(&change("four"), &["-n", "third", "--branch", "--base", &second]);
    let lazy = site.launch_shell(&wait_for_go, &["-n", "lazy", "--branch"]);
    let on_lazy = site.launch_shell("true", &["-n", "onlazy", "--branch", "--base", &lazy]);
    wait_for_reason(&site, &third, "waits for second#1 (--after)");
    fs::write(&go, "").unwrap();
    let result = until("the result", || site.record(&third).result.filter(|result| result.commit.is_some()));
    assert_eq!((result.commits, result.files), (1, 1));
    assert_eq!(git(&root, &["show", "relay/third-1:file"]), "one\ntwo\nthree\nfour");

    let record = site.ended(&on_lazy);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::DependencyFailed)));
    assert!(record.error.unwrap().message.contains("lazy#1 changed nothing"));
    let in_place = site.launch_shell("true", &["-n", "plain"]);
    for (base, reason) in [
        (lazy.as_str(), "changed nothing"),
        (in_place.as_str(), "works in its folder"),
        ("nobody#1", "no job 'nobody#1'"),
    ] {
        let code = if base.starts_with("nobody") { 3 } else { 2 };
        let workspace = root.to_string_lossy().into_owned();
        let refused = site.refused(
            code,
            &["launch", "-q", "--runner", "shell", "-w", &workspace, "--branch", "--base", base, "true"],
        );
        assert!(refused.contains(reason), "{refused}");
    }
    // A job that starts from an existing result does not wait.
    let after = site.launch_shell("cat file", &["--branch", "--base", &first]);
    site.ended(&after);
    assert!(site.log(&after).contains("one\ntwo"), "{}", site.log(&after));
}

#[test]
fn attempts_at_a_task_are_one_group_and_can_be_compared() {
    let site = site_with_settings("max_jobs = 8\n");
    make_repository(&site);
    let root = site.workspace();
    let workspace = root.to_string_lossy().into_owned();
    let launch = ["launch", "--runner", "shell", "-w", &workspace];
    let launch_with = |flags: &[&'static str]| -> Vec<String> {
        launch.iter().chain(flags).map(|word| (*word).to_owned()).collect()
    };
    let refused = site.refused(2, &as_strs(&launch_with(&["--attempts", "3", "true"])));
    assert!(refused.contains("--attempts needs --branch"), "{refused}");
    let task = "n=${RELAY_JOB#*[.#]}; for i in $(seq $n); do echo $i >> file; done; git commit -qam x";
    let check = "test $(wc -l < file) -lt 4";
    let attempts = ["-q", "--attempts", "3", "--branch=try", "--check", "true", "--check", check, task];
    assert_eq!(site.relay(&as_strs(&launch_with(&attempts))), "demo#1\ndemo#2\ndemo#3\n");
    for job in ["demo#1", "demo#2", "demo#3"] {
        let record = site.ended(job);
        assert_eq!(record.group, Some("demo-1".parse().unwrap()), "{job}");
        until("the result", || site.record(job).result);
    }
    assert_eq!(git(&root, &["branch", "--list", "try*", "--format=%(refname:short)"]), "try-1\ntry-2\ntry-3");
    let table = site.relay(&["compare", "demo-1"]);
    let cells = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = table.lines().map(cells).collect();
    assert_eq!(rows[0], ["JOB", "STATE", "CHECKS", "CHANGE", "TOKENS", "TIME", "BRANCH"]);
    let row = |n: usize| [&rows[n][..5], &rows[n][6..]].concat();
    assert_eq!(row(1), ["demo#1", "completed", "2 of 2 passed", "1 file +1 -0", "-", "try-1"]);
    let failed = ["demo#3", "failed: check_failed", "1 of 2 passed, 1 failed", "1 file +3 -0", "-", "try-3"];
    assert_eq!(row(3), failed);
    let json = site.relay(&["compare", "--json", "demo#2"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["checks"]["passed"], &json["change"]["files"]), (&2.into(), &1.into()), "{json}");
    site.refused(3, &["compare", "nobody"]);

    site.relay(&["merge", "demo#1"]);
    until("merged", || site.record("demo#1").result.filter(|result| result.state == ResultState::Merged));
    assert_eq!(site.relay(&["discard", "--group", "demo-1"]).lines().count(), 2);
    assert_eq!(git(&root, &["branch", "--list", "try*", "--format=%(refname:short)"]), "try-1");
    let wordy = site.relay(&as_strs(&launch_with(&["--attempts", "2", "--branch", "true"])));
    assert!(wordy.starts_with("Workers demo#4, demo#5 launched as group demo-4;"), "{wordy}");
    let json = site.relay(&as_strs(&launch_with(&["--attempts", "2", "--branch", "--json", "true"])));
    assert_eq!(json.lines().count(), 2, "{json}");
}
