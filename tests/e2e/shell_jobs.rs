//! Shell jobs: command lines that run as jobs, without Codex.

use std::time::{Duration, Instant};

use common::event::FailureKind;
use common::record::{Link, State};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

#[test]
fn a_launch_starts_the_relay_and_the_record_has_the_outcome() {
    let site = Site::new(Engine::Local);
    let stdout =
        site.relay(&["launch", "--runner", "shell", "-w", "workspace-projects/demo", "echo hello; exit 0"]);
    assert!(stdout.starts_with("Worker demo#1 launched; ask for status anytime."), "{stdout}");
    let record = site.ended("demo#1");
    assert_eq!(outcome(&record), (State::Completed, None));
    assert_eq!((record.exit_code, record.link), (Some(0), Some(Link::Connected)));
    assert!(record.started_at >= Some(record.created_at) && record.finished_at.is_some());
    assert_eq!(record.cleanup.map(|cleanup| (cleanup.killed, cleanup.survivors)), Some((0, 0)));
    assert_eq!(site.log("demo"), "hello\n");
    assert!(record.summary.is_some_and(|summary| summary.starts_with("demo#1 completed after ")));
}

#[test]
fn a_launch_does_not_wait_for_the_worker() {
    let site = Site::up(Engine::Local);
    let started = Instant::now();
    let job = site.launch_shell("sleep 1000", &[]);
    // The bound is generous: the job itself takes 1,000 seconds.
    assert!(started.elapsed() < Duration::from_secs(60));
    site.record_when(&job, "runs", |record| record.state == State::Running);
    assert_eq!(site.run(&["status", "--exit-code", &job]).status.code(), Some(8));
    site.relay(&["cancel", "--grace", "2s", &job]);
}

#[test]
fn run_streams_the_output_and_returns_the_exit_code_of_its_command() {
    let site = Site::new(Engine::Local);
    let command = ["--", "sh", "-c", "echo out; echo err >&2; exit 7"];
    let output = site.run(&[&["run", "-w", "workspace-projects/demo"], &command[..]].concat());
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\nerr\n");
    assert_eq!(outcome(&site.record("demo")), (State::Failed, Some(FailureKind::Exited)));
}

#[test]
fn wait_returns_the_worst_exit_code_of_several_jobs_with_separate_logs() {
    let site = Site::new(Engine::Local);
    let gate = "until test -e go; do sleep 0.02; done";
    let jobs: Vec<String> = (0..3)
        .map(|n| {
            site.launch_shell(&format!("{gate}; echo worker {n}; exit {}", n / 2), &["-n", &format!("w{n}")])
        })
        .collect();
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    site.write("workspace-projects/demo/go", "");
    let two: Vec<&str> = jobs[..2].iter().map(String::as_str).collect();
    assert_eq!(site.run(&[&["wait"], &two[..]].concat()).status.code(), Some(0));
    assert_eq!(site.run(&["wait", two[0], two[1], &jobs[2]]).status.code(), Some(1));
    for (n, job) in jobs.iter().enumerate() {
        assert_eq!(site.log(job), format!("worker {n}\n"));
    }
}

#[test]
fn setup_runs_before_and_checks_after_the_worker_and_failures_fail_the_job() {
    let site = Site::new(Engine::Local);
    let good = site.launch_shell("cat made", &["--setup", "echo made >made", "--check", "grep made made"]);
    assert_eq!(outcome(&site.ended(&good)), (State::Completed, None));
    let record = site.ended(&site.launch_shell("true", &["--check", "echo it is broken; exit 3"]));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::CheckFailed)));
    assert!(record.error.unwrap().message.contains("it is broken"));
    let unset = site.launch_shell("touch never", &["--setup", "exit 4"]);
    assert_eq!(outcome(&site.ended(&unset)), (State::Failed, Some(FailureKind::SetupFailed)));
    assert!(!site.workspace().join("never").exists());
}

#[test]
fn a_job_without_a_free_slot_is_queued_and_says_why() {
    let site = Site::new(Engine::Local);
    site.configure("max_jobs = 1\n[codex]\nsandbox = \"off\"\n");
    let first = site.launch_shell("until test -e go; do sleep 0.02; done", &[]);
    site.record_when(&first, "runs", |record| record.state == State::Running);
    let second = site.launch_shell("true", &[]);
    assert_eq!(site.record(&second).state, State::Queued);
    let status = site.relay(&["status", &second]);
    assert!(status.contains("queued") && status.contains('1'), "{status}");
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&second)), (State::Completed, None));
}

#[test]
fn an_environment_value_reaches_the_worker_and_does_not_stay_in_the_registry() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("echo \"got $COLOUR\"", &["--env", "COLOUR=ultramarine"]);
    site.ended(&job);
    assert_eq!(site.log(&job), "got ultramarine\n");
    let spec = std::fs::read_to_string(site.registry().join("demo.1.spec")).unwrap();
    assert!(!spec.contains("ultramarine"), "{spec}");
}

#[test]
fn the_same_key_launches_once() {
    let site = Site::new(Engine::Local);
    let first = site.launch_shell("true", &["--key", "k1"]);
    let second = site.launch_shell("true", &["--key", "k1"]);
    assert_eq!(first, second);
    site.ended(&first);
    assert_eq!(site.relay(&["status", "-a", "--json"]).lines().count(), 1);
}

#[test]
fn the_workspace_has_a_copy_of_the_log_that_git_ignores() {
    let site = Site::new(Engine::Local);
    let record = site.ended(&site.launch_shell("echo for the record", &[]));
    let path = record.workspace_log.unwrap();
    assert_eq!(path, site.workspace().join(".codex-worker/demo.1/log.txt").to_string_lossy());
    assert!(std::fs::read_to_string(path).unwrap().contains("for the record"));
    assert_eq!(
        std::fs::read_to_string(site.workspace().join(".codex-worker/.gitignore")).unwrap().trim(),
        "*"
    );
}

/// Returns a command line that is longer than any argument can be, and the output that it prints.
fn long_line() -> (String, String) {
    let text = "ä'\"$x \\n%s 0123456789\n".repeat(20_000);
    let line =
        format!("cat <<'END'\n{text}END\ncat; printf '%s|' \"${{line-unset}}\" \"$#\" \"$0\"\nexit 7\n");
    assert!(line.len() > 400_000);
    (line, format!("{text}unset|0|sh|"))
}

/// Checks outcome and output of a job with [`long_line`].
fn check_long_job(site: &Site, job: &str, expected: &str) {
    let record = site.ended(job);
    assert_eq!((record.state, record.exit_code), (State::Failed, Some(7)), "{:?}", record.error);
    let log = std::fs::read_to_string(site.file_path(job, "log")).unwrap();
    assert!(log == expected, "{} bytes instead of {}", log.len(), expected.len());
}

#[test]
fn a_command_line_of_any_length_runs_byte_for_byte() {
    let site = Site::new(Engine::Local);
    let (line, expected) = long_line();
    site.write("long.sh", &line);
    let launch = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "-f", "long.sh"];
    check_long_job(&site, site.relay(&launch).trim(), &expected);
}

#[test]
#[ignore = "needs the real Codex"]
fn a_command_line_of_any_length_runs_byte_for_byte_in_the_sandbox() {
    let site = Site::new(Engine::Local);
    site.configure_in_sandbox("");
    let (line, expected) = long_line();
    site.write("long.sh", &line);
    let launch = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "-f", "long.sh"];
    check_long_job(&site, site.relay(&launch).trim(), &expected);
}
