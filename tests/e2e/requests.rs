//! Requests to a relay: each is carried out once, by the relay that it is addressed to.

use std::fs::{self, File};
use std::process::{Child, Stdio};

use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until};
use rustix::process::{Pid, Signal, kill_process};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Texts of the filed requests.
fn filed(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.registry().join("requests")).unwrap().flatten();
    entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect()
}

fn is_filed(site: &Site, op: &str) -> bool {
    filed(site).iter().any(|text| text.contains(&format!("\"op\":\"{op}\"")))
}

fn spawn(site: &Site, args: &[&str]) -> Child {
    site.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Creates a site whose relay hangs with a request to go down; also returns the command that waits for that.
fn asked_to_go_down() -> (Site, Child) {
    let site = Site::up(Engine::Local);
    signal(site.daemon_pid(), Signal::STOP);
    let down = spawn(&site, &["down"]);
    until("it is asked to go down", || is_filed(&site, "down").then_some(()));
    (site, down)
}

#[test]
fn a_down_that_was_meant_for_a_dead_relay_is_not_obeyed_by_the_next() {
    let (site, mut down) = asked_to_go_down();
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
fn a_down_whose_relay_is_killed_meanwhile_leaves_no_request() {
    let (site, mut down) = asked_to_go_down();
    processes::kill(site.daemon_pid());
    assert!(down.wait().unwrap().success());
    assert_eq!(filed(&site), [""; 0]);
}

#[test]
fn a_job_that_the_relay_has_not_heard_of_is_cancelled_and_extended_all_the_same() {
    let site = Site::up(Engine::Local);
    for request in [&["cancel"][..], &["extend"]] {
        signal(site.daemon_pid(), Signal::STOP);
        let job = site.launch_shell("sleep 1000", &[]);
        for hint in fs::read_dir(site.registry().join("requests")).unwrap().flatten() {
            fs::remove_file(hint.path()).unwrap();
        }
        let more: &[&str] = if request == ["extend"] { &["1h"] } else { &[] };
        let mut asks = spawn(&site, &[request, &[job.as_str()], more].concat());
        until("it is asked", || is_filed(&site, request[0]).then_some(()));
        signal(site.daemon_pid(), Signal::CONT);
        asks.wait().unwrap();
        if request == ["cancel"] {
            assert_eq!(site.ended(&job).state, State::Cancelled);
        } else {
            until("its limit has moved", || {
                let log = fs::read_to_string(site.file(&job, "events.jsonl")).unwrap_or_default();
                log.contains("\"type\":\"extended\"").then_some(())
            });
            site.relay(&["cancel", "--grace", "1s", &job]);
        }
    }
}

#[test]
fn a_prune_does_not_pass_for_a_relay() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("true", &[]));
    site.relay(&["down"]);
    for ending in ["json", "spec", "log", "events.jsonl"] {
        let name = format!("demo.1.{ending}");
        let _ = fs::rename(site.registry().join(&name), site.registry().join("archive").join(&name));
    }
    // The counter of the name, which a prune locks.
    let counter = File::open(site.registry().join("names/demo")).unwrap();
    counter.lock().unwrap();
    let mut prune = spawn(&site, &["prune", "--keep", "0"]);
    let lock = File::open(site.registry().join("relay.lock")).unwrap();
    let is_free = || lock.try_lock().is_ok_and(|()| lock.unlock().is_ok());
    until("it waits", || (!is_free() || site.registry().join("prune.lock").exists()).then_some(()));
    assert!(is_free(), "it holds the lock of relays");
    site.relay(&["up"]);
    counter.unlock().unwrap();
    assert!(prune.wait().unwrap().success());
    assert!(!site.registry().join("archive/demo.1.json").exists());
}

#[test]
fn of_many_commands_that_start_a_relay_at_once_each_finds_one() {
    let site = Site::new(Engine::Local);
    site.approve();
    let all: Vec<Child> = (0..8)
        .map(|_| site.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for child in all {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}\n{}", site.daemon_log());
    }
}
