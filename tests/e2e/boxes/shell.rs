//! `relay shell`.

use relay_tests::harness::docker::docker;
use relay_tests::harness::tmux::Terminal;
use relay_tests::harness::{Engine, Site};

use super::site;

#[test]
#[ignore = "needs Docker"]
fn a_shell_opens_in_the_container_of_a_running_job_and_needs_a_terminal() {
    let site = site("");
    let job = site.launch_running("until test -e go; do sleep 0.02; done", &[]);
    let name = site.box_of(&job);
    let stderr = site.refused(2, &["shell", &job]);
    assert!(stderr.contains("terminal"), "{stderr}");
    let terminal = Terminal::open(&site, 80, 24);
    terminal.press(&[&format!("relay shell {}", job.replace('#', ".")), "Enter"]);
    let hostname = docker(&["inspect", "--format", "{{.Config.Hostname}}", &name]);
    terminal
        .wait_until_shown("the prompt of the container", |screen| screen.contains(&format!("@{hostname}")));
    site.write("workspace-projects/demo/go", "");
    site.ended(&job);
    let stderr = site.refused(2, &["shell", &job]);
    assert!(stderr.contains("has ended (completed)"), "{stderr}");
}

#[test]
fn a_job_without_a_container_has_no_shell() {
    let site = Site::up(Engine::Local);
    let job = site.launch_running("until test -e go; do sleep 0.02; done", &[]);
    let stderr = site.refused(2, &["shell", &job]);
    assert!(stderr.contains("runs on this machine, in no container"), "{stderr}");
    assert_eq!(site.refused(3, &["shell", "missing"]).lines().count(), 1);
}
