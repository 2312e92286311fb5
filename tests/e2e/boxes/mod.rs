//! Jobs that have a container each (`[platform] isolation = "job"`), in the real Docker and podman.

mod codex;
mod kills;
mod limits;
mod network;
mod podman;
mod quota;
mod random_kills;
mod secret;
mod shell;

use common::record::State;
use common::result::ResultState;
use relay_tests::harness::docker::docker;
use relay_tests::harness::figures::times;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

/// Setting that gives each job a container.
const SETTING: &str = "isolation = \"job\"\n";

/// Creates a site whose jobs have a container each, and starts its relay.
fn site(additional: &str) -> Site {
    let site = Site::new(Engine::Docker);
    site.configure(&format!("{SETTING}{additional}"));
    site.relay(&["up"]);
    site
}

/// Returns a label of a container.
fn label(container: &str, name: &str) -> String {
    docker(&["inspect", "--format", &format!("{{{{index .Config.Labels \"{name}\"}}}}"), container])
}

#[test]
#[ignore = "needs Docker"]
fn a_job_has_a_container_of_its_own_which_is_gone_after_its_end() {
    let site = site("");
    let job = site.launch_running(
        "cat /etc/hostname; until test -e go; do sleep 0.02; done; touch made; echo $RELAY_JOB",
        &[],
    );
    let name = site.box_of(&job);
    assert_eq!(label(&name, "relay.registry"), site.registry().to_str().unwrap());
    assert_eq!((label(&name, "relay.job"), label(&name, "relay.epoch")), ("demo.1".into(), "1".into()));
    let hostname = docker(&["inspect", "--format", "{{.Config.Hostname}}", &name]);
    site.write("workspace-projects/demo/go", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert_eq!(site.log(&job), format!("{hostname}\n{job}\n"));
    assert!(site.workspace().join("made").exists());
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker"]
fn a_job_sees_neither_processes_nor_values_nor_folders_of_another() {
    let site = site("");
    site.write("workspace-projects/other/secret", "canary-file");
    let first = site.launch_running(
        "echo canary >~/mine; until test -e go; do sleep 0.02; done",
        &["-n", "first", "--env", "CANARY=s3cret-canary"],
    );
    let look = "ls /workspaces; cat ~/mine /workspaces/other/secret; cat /proc/[0-9]*/environ | tr '\\0' '\\n'; \
                cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    let second = site.launch_shell(look, &["-n", "second"]);
    site.ended(&second);
    let log = site.log(&second);
    assert!(log.starts_with("demo\n"), "{log}");
    assert!(!log.contains("canary") && !log.contains("until test"), "{log}");
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&first)), (State::Completed, None));
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker"]
fn many_jobs_have_a_container_each_at_once() {
    let count = times(6, 20);
    let site = site("max_jobs = 20\nmemory = \"256MiB\"\npids = 64\n");
    let jobs: Vec<String> = (0..count)
        .map(|n| {
            site.launch_shell(
                "until test -e go; do sleep 0.1; done; cat /etc/hostname",
                &["-n", &format!("j{n}")],
            )
        })
        .collect();
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    assert_eq!(site.boxes().len(), count);
    site.write("workspace-projects/demo/go", "");
    let mut hostnames: Vec<String> = Vec::new();
    for job in &jobs {
        assert_eq!(outcome(&site.ended(job)), (State::Completed, None), "{}", site.log(job));
        hostnames.push(site.log(job));
    }
    hostnames.sort();
    hostnames.dedup();
    assert_eq!(hostnames.len(), count);
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker"]
fn a_change_made_in_a_clone_is_handed_over_before_the_container_is_gone() {
    let site = site("");
    crate::places::make_repository(&site);
    let job = site.launch_shell(
        "echo new >new; git add new; git commit -qm new; ls /workspaces | wc -l",
        &["--branch"],
    );
    let record = site.ended(&job);
    crate::places::result_when(&site, &job, ResultState::Open);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert!(site.log(&job).ends_with("\n0\n"), "a job with a clone sees no workspace: {}", site.log(&job));
    site.wait_for_no_box();
    assert!(site.relay(&["diff", &job]).contains("+new"));
}
