//! A platform in a container of the real podman.

use std::fs;

use common::event::FailureKind;
use common::record::State;
use common::result::ResultState;
use relay_tests::harness::podman::{BASE_IMAGE, build_base_image, podman};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, processes, until};

use crate::places::{git, make_repository, result_when};

const IMAGE: &str = "localhost/relay-test-podman:1";

#[test]
#[ignore = "needs Docker and podman"]
fn a_platform_in_podman_is_built_runs_jobs_survives_exits_and_goes_down() {
    // In one test, because the platform is expensive: one build and one container for all checks.
    let site = Site::in_podman(IMAGE);
    build_base_image();
    site.configure(&format!("base = \"{BASE_IMAGE}\"\n"));
    check_up(&site);
    check_shell_job(&site);
    check_branch_job(&site);
    check_cancel(&site);
    check_kill(&site);
    check_stop_by_a_person(&site);
    check_down(&site);
    podman(&["image", "rm", "-f", BASE_IMAGE]);
}

/// Builds the image and starts the platform. The container must not get this machine's proxies.
fn check_up(site: &Site) {
    let proxy = "http://user:canary@127.0.0.1:1";
    let up = site.command(&["up", "--build"]).env("http_proxy", proxy).output().unwrap();
    let stderr = String::from_utf8_lossy(&up.stderr);
    assert!(up.status.success(), "{stderr}\n{}", site.daemon_log());
    assert!(String::from_utf8_lossy(&up.stdout).contains("engine podman"), "{up:?}");
    assert!(!podman(&["inspect", &site.container()]).contains("canary"));
    let doctor = String::from_utf8(site.run(&["doctor"]).stdout).unwrap();
    for line in ["podman", "workers can write in", "with worker-agent"] {
        assert!(
            doctor.lines().any(|found| found.starts_with('✓') && found.contains(line)),
            "{line}: {doctor}"
        );
    }
}

fn check_shell_job(site: &Site) {
    let job = site.launch_shell("cat /etc/hostname; touch made", &[]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert_eq!(record.engine, "podman");
    let hostname = podman(&["exec", &site.container(), "cat", "/etc/hostname"]);
    assert!(site.log(&job).starts_with(&hostname), "{}", site.log(&job));
    assert!(site.workspace().join("made").exists());
}

fn check_branch_job(site: &Site) {
    let root = make_repository(site);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "second"]);
    let line = "echo theirs >theirs; git add theirs; git commit -qm theirs";
    let job = site.launch_shell(line, &["--branch"]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.log(&job));
    result_when(site, &job, ResultState::Open);
    assert!(site.relay(&["diff", &job]).contains("\n+theirs\n"));
    site.relay(&["merge", &job]);
    assert_eq!(fs::read_to_string(root.join("theirs")).unwrap(), "theirs\n");
}

fn check_cancel(site: &Site) {
    let job = site.launch_running("setsid sleep 1234 & sleep 1234", &[]);
    site.relay(&["cancel", &job]);
    assert_eq!(outcome(&site.ended(&job)), (State::Cancelled, None));
    let processes = podman(&["top", &site.container(), "args"]);
    assert!(!processes.contains("sleep 1234"), "{processes}");
}

/// Kills the container below a job. The job ends with this cause, and the next one runs in the restarted container.
fn check_kill(site: &Site) {
    let job = site.launch_running("sleep 1000", &[]);
    podman(&["kill", &site.container()]);
    let record = site.ended(&job);
    assert_eq!(
        outcome(&record),
        (State::Failed, Some(FailureKind::ContainerExited)),
        "{}",
        site.daemon_log()
    );
    assert_eq!(record.exit_code, Some(137));
    let message = record.error.unwrap().message;
    assert!(message.contains("exited with code 137: it was killed"), "{message}");
    check_works(site);
}

/// Stops the idle container as a person does. It stays stopped until a job or `relay up` needs it.
fn check_stop_by_a_person(site: &Site) {
    let container = site.container();
    podman(&["stop", "-t", "30", &container]);
    until("the relay has recorded the stop", || {
        let lease = fs::read_to_string(site.registry().join("relay.json")).ok()?;
        lease.contains("was stopped by hand").then_some(())
    });
    let running = || podman(&["inspect", "--format", "{{.State.Running}}", &container]);
    assert_eq!(running(), "false");
    check_works(site);
    podman(&["stop", "-t", "30", &container]);
    site.relay(&["up"]);
    assert_eq!(running(), "true");
}

/// Ends a platform whose container is paused, which podman refuses to stop.
fn check_down(site: &Site) {
    podman(&["pause", &site.container()]);
    until("the relay has recorded the pause", || {
        let lease = fs::read_to_string(site.registry().join("relay.json")).ok()?;
        lease.contains("is paused").then_some(())
    });
    site.relay(&["down"]);
    let filter = format!("name={}", site.container());
    assert_eq!(podman(&["ps", "--all", "--quiet", "--filter", &filter]), "");
    let follower = format!("label=relay.registry={}", site.registry().display());
    until("no process follows the events", || processes::running(&follower).is_empty().then_some(()));
}

fn check_works(site: &Site) {
    let job = site.launch_shell("echo works", &[]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.daemon_log());
}
