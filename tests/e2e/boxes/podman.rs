//! Jobs that have a container each in the real podman.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::podman::{BASE_IMAGE, build_base_image, podman};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, until};

use super::SETTING;

/// Returns the files in podman's folder for temporary files that have the configuration of an agent, with its token.
fn copied_configurations() -> BTreeSet<PathBuf> {
    let files = fs::read_dir("/var/tmp").unwrap().map(|entry| entry.unwrap().path());
    let has_token = |path: &PathBuf| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(8).any(|window| window == b"\"token\":"))
    };
    files.filter(has_token).collect()
}

#[test]
#[ignore = "needs Docker and podman"]
fn jobs_in_podman_have_a_container_each_with_limits_and_survive_their_relay() {
    let site = Site::in_podman("localhost/relay-test-podman-boxes:1");
    build_base_image();
    let copies_before = copied_configurations();
    site.configure(&format!("{SETTING}base = \"{BASE_IMAGE}\"\npids = 64\ndisk = \"64MiB\"\n"));
    site.relay(&["up", "--build"]);
    let job = site.launch_shell("cat /etc/hostname; until test -e go; do sleep 0.02; done", &[]);
    let name = site.box_of(&job);
    until("the job has begun", || (site.log(&job).len() > 1).then_some(()));
    let hostname = podman(&["inspect", "--format", "{{.Config.Hostname}}", &name]);
    let pid = site.daemon_pid().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    site.relay(&["up"]);
    assert_eq!(site.boxes(), [name]);
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    assert_eq!(site.log(&job), format!("{hostname}\n"));
    site.wait_for_no_box();
    let killed = site.launch_running("sleep 1000", &[]);
    podman(&["kill", &site.box_of(&killed)]);
    assert_eq!(outcome(&site.ended(&killed)), (State::Failed, Some(FailureKind::ContainerExited)));
    site.wait_for_no_box();
    let write = "for n in $(seq 300); do head -c 2097152 /dev/zero >>~/fill; sleep 0.05; done";
    let filled = site.ended(&site.launch_shell(write, &[]));
    assert_eq!(outcome(&filled), (State::Failed, Some(FailureKind::DiskLimit)), "{filled:?}");
    let bomb = site.launch_shell("for n in $(seq 100); do sleep 1000 & done", &[]);
    let error = site.ended(&bomb).error.unwrap().message;
    assert!(error.contains("the limit of 64 processes"), "{error}");
    site.wait_for_no_box();
    assert_eq!(copied_configurations(), copies_before, "podman keeps copies of what it gets on stdin");
}
