//! Requests to a relay, which are files: each is carried out once, by the relay to which it is addressed.

use std::fs::{self, File};
use std::process::{Child, Stdio};

use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until};
use rustix::process::{Pid, Signal, kill_process};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Returns the texts of all requests in the registry.
fn request_texts(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.registry().join("requests")).unwrap().flatten();
    entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect()
}

fn is_filed(site: &Site, op: &str) -> bool {
    request_texts(site).iter().any(|text| text.contains(&format!("\"op\":\"{op}\"")))
}

fn spawn(site: &Site, args: &[&str]) -> Child {
    site.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Creates a site whose relay is stopped by a signal, and a `relay down` that waits for it.
fn site_with_pending_down() -> (Site, Child) {
    let site = Site::up(Engine::Local);
    signal(site.daemon_pid(), Signal::STOP);
    let down = spawn(&site, &["down"]);
    until("the request to go down is filed", || is_filed(&site, "down").then_some(()));
    (site, down)
}

#[test]
fn a_request_to_go_down_is_not_obeyed_by_the_next_relay() {
    let (site, mut down) = site_with_pending_down();
    down.kill().unwrap();
    down.wait().unwrap();
    let dead = site.daemon_pid();
    processes::kill(dead);
    let job = site.launch_shell("until test -e go; do sleep 0.02; done", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    until("the old request is gone", || (!is_filed(&site, "down")).then_some(()));
    let living = site.daemon_pid();
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    site.relay(&["up"]);
    assert!(site.daemon_pid() == living && living != dead, "{}", site.daemon_log());
}

#[test]
fn relay_down_leaves_no_request_if_the_relay_is_killed_meanwhile() {
    let (site, mut down) = site_with_pending_down();
    processes::kill(site.daemon_pid());
    assert!(down.wait().unwrap().success());
    assert_eq!(request_texts(&site), [""; 0]);
}

#[test]
fn a_job_that_the_relay_does_not_know_yet_can_be_cancelled_and_extended() {
    let site = Site::up(Engine::Local);
    for request in [&["cancel"][..], &["extend"]] {
        signal(site.daemon_pid(), Signal::STOP);
        let job = site.launch_shell("sleep 1000", &[]);
        for hint in fs::read_dir(site.registry().join("requests")).unwrap().flatten() {
            fs::remove_file(hint.path()).unwrap();
        }
        let arguments: &[&str] = if request == ["extend"] { &["1h"] } else { &[] };
        let mut command = spawn(&site, &[request, &[job.as_str()], arguments].concat());
        until("the request is filed", || is_filed(&site, request[0]).then_some(()));
        signal(site.daemon_pid(), Signal::CONT);
        command.wait().unwrap();
        if request == ["cancel"] {
            assert_eq!(site.ended(&job).state, State::Cancelled);
        } else {
            until("its limit is extended", || {
                let log = fs::read_to_string(site.file_path(&job, "events.jsonl")).unwrap_or_default();
                log.contains("\"type\":\"extended\"").then_some(())
            });
            site.relay(&["cancel", "--grace", "1s", &job]);
        }
    }
}

#[test]
fn relay_prune_does_not_hold_the_lock_of_relays() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("true", &[]));
    site.relay(&["down"]);
    for ending in ["json", "spec", "log", "events.jsonl"] {
        let name = format!("demo.1.{ending}");
        let _ = fs::rename(site.registry().join(&name), site.registry().join("archive").join(&name));
    }
    // `relay prune` has to wait for the lock of this file.
    let counter = File::open(site.registry().join("names/demo")).unwrap();
    counter.lock().unwrap();
    let mut prune = spawn(&site, &["prune", "--keep", "0"]);
    let lock = File::open(site.registry().join("relay.lock")).unwrap();
    let is_free = || lock.try_lock().is_ok_and(|()| lock.unlock().is_ok());
    until("the prune waits", || (!is_free() || site.registry().join("prune.lock").exists()).then_some(()));
    assert!(is_free(), "the prune holds the lock of relays");
    site.relay(&["up"]);
    counter.unlock().unwrap();
    assert!(prune.wait().unwrap().success());
    assert!(!site.registry().join("archive/demo.1.json").exists());
}

#[test]
fn many_simultaneous_commands_that_start_a_relay_all_succeed() {
    let site = Site::new(Engine::Local);
    site.approve();
    let all: Vec<Child> = (0..8)
        .map(|_| site.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for child in all {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}\n{}", site.daemon_log());
    }
}
