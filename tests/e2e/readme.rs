//! Runs the commands that the README prints, exactly as printed.

use std::fs;
use std::process::Command;

use common::record::State;
use common::result::ResultState;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs, until};

use super::codex;

fn readme() -> String {
    fs::read_to_string(programs::workspace().join("README.md")).unwrap()
}

/// Returns the commands of the README that set up a project and launch the first job.
fn first_commands() -> Vec<String> {
    let readme = readme();
    let (_, rest) = readme.split_once("Then, in your own git repository").unwrap();
    let (_, rest) = rest.split_once("```sh\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    block.lines().map(str::to_owned).collect()
}

/// Returns every `relay` command in the README's `sh` blocks, and after a prompt in its `console` blocks.
fn printed_commands() -> Vec<String> {
    let mut block = None;
    let mut commands = Vec::new();
    for line in readme().lines() {
        let command = match (line.strip_prefix("```"), block.as_deref()) {
            (Some(language), None) => {
                block = Some(language.to_owned());
                None
            }
            (Some(_), Some(_)) => {
                block = None;
                None
            }
            (None, Some("sh")) => Some(line),
            (None, Some("console")) => line.strip_prefix("$ "),
            _ => None,
        };
        if let Some(command) = command.filter(|command| command.starts_with("relay ")) {
            commands.push(command.split(" #").next().unwrap_or_default().trim_end().to_owned());
        }
    }
    commands
}

/// Returns a command that runs a shell script with the programs under test on its `PATH`.
fn shell(site: &Site, script: &str) -> Command {
    let path = format!("{}:{}", programs::dir().display(), std::env::var("PATH").unwrap());
    let mut shell = site.environment(Command::new("sh"));
    shell
        .args(["-exc", script])
        .current_dir(site.root())
        .env("PATH", path)
        .env("CODEX_HOME", site.codex_home());
    shell
}

#[test]
fn every_command_and_flag_in_the_readme_exists() {
    let site = Site::new(Engine::Local);
    let commands = printed_commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        // Flags are checked from left to right before `--help` is reached.
        let help_command = match command.split_once(" -- ") {
            Some((flags, rest)) => format!("{flags} --help -- {rest}"),
            None => format!("{command} --help"),
        };
        let output = shell(&site, &help_command).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_command_is_in_a_table_of_the_readme() {
    let site = Site::new(Engine::Local);
    let pages = site.root().join("man");
    fs::create_dir(&pages).unwrap();
    site.relay(&["completions", "--man", pages.to_str().unwrap()]);
    let names = fs::read_dir(&pages).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap());
    let commands: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix("relay-")?.strip_suffix(".1")?.to_owned()))
        .filter(|name| !name.starts_with("help"))
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    let readme = readme();
    for command in commands {
        assert!(
            readme.contains(&format!("| `relay {command}` | ")),
            "{command} is in no table of the README"
        );
    }
}

#[test]
#[ignore = "needs the real Codex"]
fn the_first_commands_of_the_readme_work_as_printed() {
    let (_model, site) = codex::site(Engine::Local, "127.0.0.1");
    let init_repository =
        "git init -q . && git -c user.name=n -c user.email=n@localhost commit -q --allow-empty -m first";
    assert!(shell(&site, init_repository).status().unwrap().success());
    // The test needs settings of its own, so `relay.toml` of `relay init` is only checked and then replaced.
    let settings = site.root().join("platform/relay.toml");
    let (own_settings, written) = (fs::read_to_string(&settings).unwrap(), "[workspace]\nbranch = true\n");
    fs::remove_file(&settings).unwrap();
    site.relay(&["init"]);
    let uncommented = fs::read_to_string(&settings).unwrap();
    let in_force = uncommented.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert!(in_force.collect::<Vec<_>>().join("\n").contains(written.trim_end()), "{uncommented}");
    fs::write(&settings, own_settings + written).unwrap();
    let mut commands = first_commands();
    // This test uses engine `local`, because other tests build an image.
    let up = commands.iter_mut().find(|command| command.starts_with("relay up")).unwrap();
    *up = "relay up --yes".to_owned();
    let script = commands.join("\n");
    let output = shell(&site, &script).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    assert!(script.contains("relay init") && script.contains("relay launch \""));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let job = printed.split_whitespace().find(|word| word.contains('#')).unwrap().to_owned();
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    let result = until("the result", || site.record(&job).result);
    assert_eq!(result.state, ResultState::None, "the scripted worker changes nothing");
}
