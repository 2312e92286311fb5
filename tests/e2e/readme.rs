//! Runs the commands that the README prints, exactly as printed.

use std::fs;
use std::process::Command;

use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, programs};

use super::codex;

/// Commands with which a new project begins.
fn first_commands() -> Vec<String> {
    let readme = fs::read_to_string(programs::workspace().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("To use it in a project of yours").unwrap();
    let (_, rest) = rest.split_once("```sh\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    block.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs the real Codex"]
fn the_first_launch_works_as_printed() {
    let (_model, site) = codex::site(Engine::Local, "127.0.0.1");
    fs::remove_dir_all(site.root().join("workspace-projects")).unwrap();
    let origin = site.root().join("origin");
    let init = Command::new("git").args(["init", "-q"]).arg(&origin).status().unwrap();
    assert!(init.success());
    let mut commands = first_commands();
    // Other tests build an image: this site runs its workers on this machine.
    let up = commands.iter_mut().find(|command| command.starts_with("relay up")).unwrap();
    *up = "relay up --yes".to_owned();
    commands.retain(|command| !command.starts_with("install "));
    let script = commands.join("\n").replace(" URL ", &format!(" {} ", origin.display()));
    let path = format!("{}:{}", programs::dir().display(), std::env::var("PATH").unwrap());
    let mut shell = site.environment(Command::new("sh"));
    shell
        .args(["-exc", &script])
        .current_dir(site.root())
        .env("PATH", path)
        .env("CODEX_HOME", site.codex_home());
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(script.contains("relay init") && script.contains("relay launch -w workspace-projects/demo"));
    assert_eq!(outcome(&site.ended("demo#1")), (State::Completed, None), "{}", site.log("demo#1"));
}
