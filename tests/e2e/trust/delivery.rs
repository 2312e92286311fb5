//! The session named in a job's record is data that any writer of the record can choose: the daemon trusts none of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use relay_tests::harness::{Engine, Site, programs, until};
use rustix::fs::{CWD, Mode, mkfifoat};

/// Id of version 7, of 2025-11-22.
const THREAD: &str = "019aab00-0000-7000-8000-000000000001";

/// A folder that a worker could have filled: neither in the project nor in a folder for temporary files.
fn filled(site: &Site) -> PathBuf {
    let home = site.state_home().join("workspaces/evil");
    fs::create_dir_all(&home).unwrap();
    home
}

/// Launch by a session of Codex with this home.
fn launch(site: &Site, home: &std::path::Path, name: &str) -> Command {
    let mut launch = site.command(&[
        "launch",
        "-q",
        "--runner",
        "shell",
        "-n",
        name,
        "-w",
        "workspace-projects/demo",
        "true",
    ]);
    launch.env("CODEX_HOME", home).env("CODEX_THREAD_ID", THREAD);
    launch
}

fn way(site: &Site, job: &str) -> serde_json::Value {
    let path = site.registry().join("outbox").join(format!("{}.json", job.replace('#', ".")));
    let entry: serde_json::Value =
        serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default();
    entry["ways"]["codex"].clone()
}

#[test]
#[ignore = "needs the real Codex"]
fn a_program_named_by_the_settings_in_a_sessions_codex_home_never_runs() {
    let site = Site::new(Engine::Local);
    site.configure(&format!(
        "[codex]\nsandbox = \"off\"\n[notify]\ncodex = \"{}\"\n",
        programs::codex().display()
    ));
    let (home, ran) = (filled(&site), site.state_home().join("ran"));
    let settings = format!(
        "model_provider = \"x\"\n[model_providers.x]\nname = \"x\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         wire_api = \"responses\"\n[model_providers.x.auth]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"touch {}; echo key\"]\n",
        ran.display()
    );
    fs::write(home.join("config.toml"), settings).unwrap();
    site.relay(&["up"]);
    assert!(launch(&site, &home, "demo").output().unwrap().status.success());
    let way = until("the message is given up or taken", || {
        let way = way(&site, "demo#1");
        (way["attempts"].as_u64() > Some(0)).then_some(way)
    });
    assert!(!ran.exists(), "{way}");
    assert_eq!(way["state"], "given_up", "{way}");
    let status = site.relay(&["status", "demo"]);
    let told = status.lines().find(|line| line.contains("codex given up")).unwrap_or_default();
    assert!(told.contains("start relay with the same CODEX_HOME"), "{status}");
}

#[test]
fn a_pipe_in_a_sessions_codex_home_keeps_nobody_elses_end_back() {
    let site = Site::new(Engine::Local);
    let told = site.state_home().join("told");
    fs::write(&told, "#!/bin/sh\necho \"$RELAY_JOB\" >>\"$1\"\n").unwrap();
    let out = site.state_home().join("out");
    site.configure(&format!(
        "[notify]\ncommand = [\"sh\", \"{}\", \"{}\"]\non = [\"completed\"]\ncodex = \"true\"\n",
        told.display(),
        out.display()
    ));
    let home = filled(&site);
    let pipe = format!("rollout-2025-11-22T10-00-00-{THREAD}.jsonl");
    // The folders follow local time.
    for day in ["21", "22", "23"] {
        let folder = home.join("sessions/2025/11").join(day);
        fs::create_dir_all(&folder).unwrap();
        mkfifoat(CWD, folder.join(&pipe), Mode::RWXU).unwrap();
    }
    site.relay(&["up"]);
    assert!(launch(&site, &home, "first").output().unwrap().status.success());
    site.ended("first#1");
    let second = site.launch_shell("true", &["-n", "second"]);
    site.ended(&second);
    until("both ends were told", || {
        let told = fs::read_to_string(&out).unwrap_or_default();
        (told.contains("first#1") && told.contains("second#1")).then_some(())
    });
    until("the session of another home is given up", || {
        (way(&site, "first#1")["state"] == "given_up").then_some(())
    });
}
