//! A container engine that hangs or has lost its image; only a stand-in can simulate this.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use relay_tests::harness::{Engine, Site, until};
use rustix::process::{Pid, Signal, kill_process};

/// Creates a site whose engine is a script with these answers; `$LOG` receives each command line.
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

fn command(site: &Site, args: &[&str]) -> Command {
    let path = format!("{}:{}", site.root().join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = site.command(args);
    command.env("PATH", path);
    command
}

fn run(site: &Site, args: &[&str]) -> Output {
    command(site, args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const LAUNCH: [&str; 7] = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"];

fn asked(site: &Site, words: &str) -> bool {
    fs::read_to_string(site.root().join("engine.log")).unwrap_or_default().contains(words)
}

/// Stops the relay and leaves settings with which the site's cleanup finds no engine.
fn leave(site: &Site) {
    let output = run(site, &["down", "--force"]);
    assert!(output.status.success(), "{}", said(&output));
    site.configure("");
}

#[test]
fn an_engine_that_hangs_when_asked_for_its_gateway_keeps_the_relay_from_nothing() {
    let site = site(
        "*NetworkSettings*) sleep 14 ;;\n\
         *inspect*State*) echo 'Error: No such container' >&2; exit 1 ;;\n\
         exec*) cat >/dev/null ;;\n\
         *) echo 1 ;;",
    );
    assert!(run(&site, &LAUNCH).status.success());
    until("the gateway is asked for", || asked(&site, "NetworkSettings").then_some(()));
    let begun = Instant::now();
    let output = run(&site, &["cancel", "demo"]);
    assert!(said(&output).contains("demo#1 cancelled"), "{}", said(&output));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    leave(&site);
}

#[test]
fn a_queued_job_whose_image_is_missing_is_told_with_what_a_person_has_to_do() {
    let site = site(
        "image*) echo 'no such image' >&2; exit 1 ;;\n\
         *inspect*State*) echo 'Error: No such container' >&2; exit 1 ;;\n\
         *) echo 1 ;;",
    );
    assert!(run(&site, &LAUNCH).status.success());
    let text = until("the platform has failed", || {
        let text = said(&run(&site, &["status"]));
        (!text.contains("starting")).then_some(text)
    });
    assert!(text.contains("build it with `relay up --build`"), "{text}");
    assert!(!text.contains("nothing to do"), "{text}");
    leave(&site);
}

#[test]
fn workers_that_could_not_write_their_folder_are_named_at_up_with_what_to_do() {
    let site = site(
        "*.relay-try*) echo 'sh: 1: cannot create /workspaces/.relay-try-7: Permission denied' >&2; exit 2 ;;\n\
         *inspect*State*) echo 'Error: No such container' >&2; exit 1 ;;\n\
         exec*) cat >/dev/null ;;\n\
         *) echo 1 ;;",
    );
    let output = run(&site, &["up"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    for words in ["workers can't write in", "(Permission denied)", "keep-id", "chcon -Rt container_file_t"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    leave(&site);
}

#[test]
fn what_a_killed_relay_left_in_a_container_is_ended_although_the_settings_changed() {
    let site = site("version*) echo 1 ;;");
    let labels = format!("{{\"relay.registry\":\"{}\"}}", site.registry().display());
    let answers = format!(
        "*NetworkSettings*) ;;\n\
         'container ls'*) test -e running && echo platform ;;\n\
         *inspect*Labels*) if test -e running; then echo 'true image {labels}'; \
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
    assert!(run(&site, &LAUNCH).status.success());
    until("its container runs", || site.root().join("running").exists().then_some(()));
    let relay = i32::try_from(site.daemon_pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(relay, Signal::KILL).unwrap();
    site.configure("");
    site.approve();
    let output = run(&site, &["down"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!site.root().join("running").exists(), "{}", fs::read_to_string(log).unwrap());
}
