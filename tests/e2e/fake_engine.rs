//! A container engine that hangs or fails, simulated by a script that runs instead of `docker`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use relay_tests::harness::{Engine, Site, until};
use rustix::process::{Pid, Signal, kill_process};

/// Creates a site whose `docker` is a script: `answers` are branches of a `case` over the command line.
fn site(answers: &str) -> Site {
    let site = Site::new(Engine::Local);
    let docker = site.root().join("bin/docker");
    let log = site.root().join("engine.log");
    let script = format!(
        "#!/bin/sh\nLOG='{}'\necho \"$*\" >>\"$LOG\"\ncase \"$*\" in\n{answers}\nesac\n",
        log.display()
    );
    site.write("bin/docker", &script);
    fs::set_permissions(docker, fs::Permissions::from_mode(0o755)).unwrap();
    site.write("platform/relay.toml", "[platform]\nengine = \"docker\"\n");
    site
}

fn command_with_engine(site: &Site, args: &[&str]) -> Command {
    let path = format!("{}:{}", site.root().join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = site.command(args);
    command.env("PATH", path);
    command
}

fn run_with_engine(site: &Site, args: &[&str]) -> Output {
    command_with_engine(site, args).output().unwrap()
}

fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const LAUNCH: [&str; 7] = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"];

fn was_called_with(site: &Site, words: &str) -> bool {
    fs::read_to_string(site.root().join("engine.log")).unwrap_or_default().contains(words)
}

/// Stops the relay, and writes settings without the engine for the site's cleanup.
fn stop_and_reset(site: &Site) {
    let output = run_with_engine(site, &["down", "--force"]);
    assert!(output.status.success(), "{}", output_text(&output));
    site.configure("");
}

#[test]
fn an_engine_that_hangs_when_asked_for_its_gateway_does_not_block_the_relay() {
    let site = site(
        "*NetworkSettings*) sleep 14; touch gateway-answered ;;\n\
         *inspect*State*) echo 'Error: No such container' >&2; exit 1 ;;\n\
         exec*) cat >/dev/null ;;\n\
         *) echo 1 ;;",
    );
    assert!(run_with_engine(&site, &LAUNCH).status.success());
    until("the gateway is asked for", || was_called_with(&site, "NetworkSettings").then_some(()));
    let output = run_with_engine(&site, &["cancel", "demo"]);
    assert!(output_text(&output).contains("demo#1 cancelled"), "{}", output_text(&output));
    assert!(!site.root().join("gateway-answered").exists(), "the cancel had to wait for the engine");
    stop_and_reset(&site);
}

#[test]
fn the_status_of_a_queued_job_whose_image_is_missing_says_what_to_do() {
    let site = site(
        "image*) echo 'no such image' >&2; exit 1 ;;\n\
         *inspect*State*) echo 'Error: No such container' >&2; exit 1 ;;\n\
         *) echo 1 ;;",
    );
    assert!(run_with_engine(&site, &LAUNCH).status.success());
    let text = until("the platform has failed", || {
        let text = output_text(&run_with_engine(&site, &["status"]));
        (!text.contains("starting")).then_some(text)
    });
    assert!(text.contains("build it with `relay up --build`"), "{text}");
    assert!(!text.contains("nothing to do"), "{text}");
    stop_and_reset(&site);
}

#[test]
fn relay_up_fails_with_advice_if_workers_can_not_write_their_folder() {
    let site = site(
        "*.relay-try*) echo 'sh: 1: cannot create /workspaces/.relay-try-7: Permission denied' >&2; exit 2 ;;\n\
         *inspect*State*) echo 'Error: No such container' >&2; exit 1 ;;\n\
         exec*) cat >/dev/null ;;\n\
         *) echo 1 ;;",
    );
    let output = run_with_engine(&site, &["up"]);
    let text = output_text(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    for words in
        ["workers can't write in", "(Permission denied)", "to yourself", "chcon -Rt container_file_t"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    stop_and_reset(&site);
}

#[test]
fn relay_down_removes_the_container_of_a_killed_relay_after_settings_changed() {
    let site = site("version*) echo 1 ;;");
    let labels = format!("{{\"relay.registry\":\"{}\"}}", site.registry().display());
    let answers = format!(
        "*NetworkSettings*) ;;\n\
         'container ls'*) test -e running && echo platform ;;\n\
         *inspect*Labels*) if test -e running; then echo 'true false image {labels}'; \
           else echo 'Error: No such container' >&2; exit 1; fi ;;\n\
         run*) touch running ;;\n\
         rm*) rm -f running ;;\n\
         exec*) cat >/dev/null ;;\n\
         *) echo 1 ;;"
    );
    let log = site.root().join("engine.log");
    let script = format!(
        "#!/bin/sh\ncd '{}'\necho \"$*\" >>'{}'\ncase \"$*\" in\n{answers}\nesac\n",
        site.root().display(),
        log.display()
    );
    site.write("bin/docker", &script);
    assert!(run_with_engine(&site, &LAUNCH).status.success());
    until("its container runs", || site.root().join("running").exists().then_some(()));
    let relay = i32::try_from(site.daemon_pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(relay, Signal::KILL).unwrap();
    site.configure("");
    site.approve();
    let output = run_with_engine(&site, &["down"]);
    assert!(output.status.success(), "{}", output_text(&output));
    assert!(!site.root().join("running").exists(), "{}", fs::read_to_string(log).unwrap());
}
