//! Relays, boxes and jobs that are killed or removed at inconvenient times.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::docker::docker;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until};

use super::{SETTING, site};

/// Command line that runs until the file `go` exists in the workspace.
const UNTIL_GO: &str = "echo begun; until test -e go; do sleep 0.02; done; echo done";

fn kill_relay(site: &Site) {
    let pid = site.daemon_pid().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
}

fn launch_until_go(site: &Site) -> String {
    let job = site.launch_shell(UNTIL_GO, &[]);
    until("the job has begun", || site.log(&job).contains("begun").then_some(()));
    job
}

#[test]
#[ignore = "needs Docker"]
fn a_relay_that_was_killed_adopts_the_containers_of_its_jobs() {
    let site = site("");
    let job = launch_until_go(&site);
    let name = site.box_of(&job);
    kill_relay(&site);
    site.relay(&["up"]);
    assert_eq!(site.boxes(), [name]);
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    assert_eq!(site.log(&job), "begun\ndone\n");
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker"]
fn a_job_that_ended_while_its_relay_was_dead_is_handed_over_to_the_next() {
    let site = site("");
    let job = launch_until_go(&site);
    kill_relay(&site);
    site.write("workspace-projects/demo/go", "");
    site.relay(&["up"]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    assert_eq!(site.log(&job), "begun\ndone\n");
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker"]
fn a_relay_killed_at_any_time_of_a_start_runs_the_job_once() {
    let site = site("");
    for delay_ms in [0, 100, 200, 300, 400, 600, 800] {
        let began = Instant::now();
        let job = site.launch_shell("echo run", &[]);
        until("the delay is over", || (began.elapsed().as_millis() >= delay_ms).then_some(()));
        kill_relay(&site);
        site.relay(&["up"]);
        let record = site.ended(&job);
        assert_eq!(outcome(&record), (State::Completed, None), "{delay_ms} ms: {}", site.daemon_log());
        assert_eq!((site.log(&job).as_str(), record.epoch), ("run\n", 1), "{delay_ms} ms");
    }
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker"]
fn a_job_whose_container_is_killed_or_removed_ends_with_the_cause() {
    let site = site("");
    for args in [&["kill"][..], &["rm", "-f"]] {
        let job = launch_until_go(&site);
        docker(&[args, &[&site.box_of(&job)]].concat());
        let record = site.ended(&job);
        assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)), "{record:?}");
        assert_eq!(record.exit_code, Some(137));
        let message = record.error.unwrap().message;
        assert!(message.contains("it was killed; launch the job again"), "{message}");
        assert_eq!(site.log(&job), "begun\n");
        site.wait_for_no_box();
    }
}

#[test]
#[ignore = "needs Docker"]
fn a_container_that_was_removed_while_no_relay_ran_ends_its_job() {
    let site = site("");
    let job = launch_until_go(&site);
    kill_relay(&site);
    docker(&["rm", "-f", &site.box_of(&job)]);
    site.relay(&["up"]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)), "{record:?}");
}

#[test]
#[ignore = "needs Docker"]
fn containers_without_a_job_of_the_registry_are_removed() {
    let site = site("");
    site.relay(&["down"]);
    let registry = format!("relay.registry={}", site.registry().display());
    let labels = ["relay.job=demo.7", "relay.epoch=1", "relay.launched=5", registry.as_str()];
    let create = || {
        let mut args = vec!["run", "-d", "--entrypoint", "sleep"];
        args.extend(labels.iter().flat_map(|label| ["--label", label]));
        args.extend([relay_tests::harness::docker::IMAGE, "1000"]);
        docker(&args)
    };
    create();
    site.relay(&["up"]);
    site.wait_for_no_box();
    create();
    site.relay(&["down"]);
    assert_eq!(site.boxes(), [] as [&str; 0]);
}

#[test]
#[ignore = "needs Docker"]
fn down_ends_running_jobs_and_keeps_jobs_whose_container_is_not_ready() {
    let site = site("max_jobs = 1\n");
    let running = launch_until_go(&site);
    let queued = site.launch_shell("echo later", &[]);
    site.relay(&["down", "--force"]);
    assert_eq!(site.boxes(), [] as [&str; 0]);
    assert_eq!(outcome(&site.record(&running)), (State::Failed, Some(FailureKind::AgentLost)));
    assert_eq!(site.record(&queued).state, State::Queued);
    site.relay(&["up"]);
    assert_eq!(outcome(&site.ended(&queued)), (State::Completed, None));
    site.wait_for_no_box();
}

/// Creates a site whose `docker` runs the branches `answers` of a `case` over the command line before the real one.
fn site_with_engine(answers: &str) -> (Site, String) {
    let site = Site::new(Engine::Docker);
    site.configure(SETTING);
    let docker = site.root().join("bin/docker");
    let real = Command::new("sh").args(["-c", "command -v docker"]).output().unwrap();
    let real = String::from_utf8_lossy(&real.stdout).trim().to_owned();
    site.write("bin/docker", &format!("#!/bin/sh\ncase \"$*\" in\n{answers}\nesac\nexec {real} \"$@\"\n"));
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", site.root().join("bin").display(), std::env::var("PATH").unwrap());
    (site, path)
}

#[test]
#[ignore = "needs Docker"]
fn a_job_whose_container_hangs_in_its_start_can_be_cancelled_and_leaves_nothing() {
    let (site, path) = site_with_engine("create*) touch hangs; sleep 1000 ;;");
    assert!(site.command(&["up"]).env("PATH", &path).status().unwrap().success());
    let job = site.launch_shell("true", &[]);
    until("the engine hangs", || site.root().join("hangs").exists().then_some(()));
    let began = Instant::now();
    site.relay(&["cancel", &job]);
    assert_eq!(outcome(&site.ended(&job)), (State::Cancelled, None));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
#[ignore = "needs Docker"]
fn an_engine_that_refuses_every_container_fails_the_job_with_its_reason() {
    let (site, path) = site_with_engine("create*) echo 'no space for a layer' >&2; exit 1 ;;");
    assert!(site.command(&["up"]).env("PATH", &path).status().unwrap().success());
    let record = site.ended(&site.launch_shell("true", &[]));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::SpawnFailed)));
    let message = record.error.unwrap().message;
    assert!(message.contains("no space for a layer"), "{message}");
}
