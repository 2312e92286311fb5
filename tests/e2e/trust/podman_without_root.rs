//! Podman without root: a job in a container of its own, and a hostile worker in such a container.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use common::record::State;
use relay_tests::harness::Site;
use relay_tests::harness::figures::figure;
use relay_tests::harness::podman::{BASE_IMAGE, build_base_image_with_python};
use relay_tests::harness::podman_user::PodmanUser;
use relay_tests::harness::site::outcome;
use relay_tests::scripted_model::{ScriptedModel, Scripts, write_codex_home};

use super::tries::{AttackSite, BOX_TRY_COUNT, attack_by_shell};
use crate::model_gateway::edit_codex_config;

#[test]
#[ignore = "needs Docker and podman"]
fn without_root_podman_runs_each_job_in_a_container_that_no_try_leaves() {
    // In one test, because the images and the container of the platform are expensive.
    let user = PodmanUser::find();
    build_base_image_with_python(user.as_ref());
    let site = Site::in_podman_without_root("localhost/relay-test-podman-user:1", user);
    let model = ScriptedModel::start_on_thread(Scripts::default()).unwrap();
    write_codex_home(site.codex_home(), &model.base_url()).unwrap();
    edit_codex_config(&site, "wire_api =", "env_key = \"SCRIPTED_KEY\"\nwire_api =");
    site.configure(&format!(
        "isolation = \"job\"\nbase = \"{BASE_IMAGE}\"\ncpus = 1.5\n[model]\ngateway = true\n"
    ));
    let attack_site = AttackSite::without_root(site);
    let site = &attack_site.site;
    site.relay(&["up", "--build"]);
    check_doctor(site);
    check_job(site);
    let (broke, other) = attack_by_shell(&attack_site);
    attack_site.check_others(&other);
    figure(&format!(
        "trust: tries of a hostile worker in a container of podman without root that broke through: {} of {BOX_TRY_COUNT}, \
         by a shell job",
        broke.len()
    ));
    assert_eq!(broke, BTreeSet::new());
    let _ = site.engine_command().args(["image", "rm", "-f", BASE_IMAGE]).output();
}

fn check_doctor(site: &Site) {
    let doctor = String::from_utf8(site.run(&["doctor"]).stdout).unwrap();
    let shows = |sign: char, text: &str| {
        assert!(doctor.lines().any(|line| line.starts_with(sign) && line.contains(text)), "{text}: {doctor}");
    };
    shows('✓', "workers can write in");
    shows('✓', "jobs reach the model and the hosts in [network] allow, and nothing else");
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        shows('!', "not enforced by podman without root on this machine: memory, cpus, pids (cgroup v1)");
    }
}

/// Runs a job whose relay is killed meanwhile. The next relay makes another socket.
fn check_job(site: &Site) {
    let line = "id -u; until test -e go; do sleep 0.02; done; touch made; mkdir -p new/folder";
    let job = site.launch_running(line, &[]);
    let name = site.box_of(&job);
    let pid = site.daemon_pid().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    site.relay(&["up"]);
    assert_eq!(site.boxes(), [name]);
    site.write("workspace-projects/demo/go", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    let owner = fs::metadata(site.workspace()).unwrap().uid();
    assert_eq!(site.log(&job), format!("{owner}\n"));
    assert_ne!(owner, 0);
    for made in ["made", "new/folder", ".codex-worker"] {
        let meta = fs::symlink_metadata(site.workspace().join(made)).unwrap();
        assert_eq!(meta.uid(), owner, "{made}");
    }
    site.wait_for_no_box();
}
