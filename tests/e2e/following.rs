//! Commands that follow a job (`logs -f`, `events -f`, `run`): they only read, and their end does not affect the job.

use std::io::Read;
use std::process::{Child, Stdio};

use common::record::State;
use relay_tests::harness::{Engine, Site, until};
use rustix::process::{Pid, Signal, kill_process};

/// Starts a command that follows a job, and waits until the command has printed one byte.
fn follow(site: &Site, args: &[&str]) -> Child {
    let mut child = site.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut byte = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    child
}

#[test]
fn ctrl_c_in_a_following_command_leaves_the_worker_untouched() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("echo begun; until test -e go; do sleep 0.02; done", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    for args in [&["logs", "-f", &job][..], &["events", "-f", &job]] {
        let mut child = follow(&site, args);
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        child.wait().unwrap();
        assert_eq!(site.record(&job).state, State::Running, "{args:?}");
    }
    let mut run = follow(
        &site,
        &["run", "--share", "-w", "workspace-projects/demo", "-n", "followed", "--", "echo on; sleep 1000"],
    );
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    run.wait().unwrap();
    site.record_when("followed", "goes on", |record| record.state == State::Running);
    site.relay(&["cancel", "--grace", "1s", "followed"]);
    site.write("workspace-projects/demo/go", "");
    assert_eq!(site.ended(&job).state, State::Completed);
}

#[test]
fn events_with_follow_prints_every_event_once_and_ends_with_the_job() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e go; do sleep 0.02; done; echo done", &[]);
    let child = follow(&site, &["events", "-f", "--json", &job]);
    site.write("workspace-projects/demo/go", "");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    site.ended(&job);
    let recorded: Vec<u64> = site.events(&job).iter().map(|line| line.id).collect();
    // `follow` has read the first byte.
    let text = format!("{{{}", String::from_utf8_lossy(&output.stdout));
    let ids: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, recorded);
    let since = site.relay(&["events", "--json", "--since", &recorded[1].to_string(), &job]);
    assert_eq!(since.lines().count(), recorded.len() - 2);
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("seq 100000", &[]);
    site.ended(&job);
    let mut child = follow(&site, &["logs", "-n", "100000", &job]);
    drop(child.stdout.take());
    let end = until("relay logs ends", || child.try_wait().unwrap());
    assert_eq!(end.code(), Some(0));
}
