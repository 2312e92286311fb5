//! Delivery to the Codex session that a job's record names: the name may be forged, so the daemon must not trust it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use relay_tests::harness::{Engine, Site, programs, until};
use rustix::fs::{CWD, Mode, mkfifoat};

/// A thread id of Codex. It contains the date 2025-11-22.
const THREAD: &str = "019aab00-0000-7000-8000-000000000001";

/// Creates a `CODEX_HOME` whose content a worker chooses, outside of project and folders for temporary files.
fn planted_home(site: &Site) -> PathBuf {
    let home = site.state_home().join("workspaces/evil");
    fs::create_dir_all(&home).unwrap();
    home
}

/// Returns a launch command in a session of Codex with a given `CODEX_HOME`.
fn launch_command(site: &Site, home: &std::path::Path, name: &str) -> Command {
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

fn codex_delivery(site: &Site, job: &str) -> serde_json::Value {
    let path = site.registry().join("outbox").join(format!("{}.json", job.replace('#', ".")));
    let entry: serde_json::Value =
        serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default();
    entry["ways"]["codex"].clone()
}

#[test]
#[ignore = "needs the real Codex"]
fn a_program_named_in_the_settings_of_a_session_s_codex_home_never_runs() {
    let site = Site::new(Engine::Local);
    site.configure(&format!(
        "[codex]\nsandbox = \"off\"\n[notify]\ncodex = \"{}\"\n",
        programs::codex().display()
    ));
    let (home, ran) = (planted_home(&site), site.state_home().join("ran"));
    let settings = format!(
        "model_provider = \"x\"\n[model_providers.x]\nname = \"x\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         wire_api = \"responses\"\n[model_providers.x.auth]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"touch {}; echo key\"]\n",
        ran.display()
    );
    fs::write(home.join("config.toml"), settings).unwrap();
    site.relay(&["up"]);
    assert!(launch_command(&site, &home, "demo").output().unwrap().status.success());
    let delivery = until("the message is given up or accepted", || {
        let delivery = codex_delivery(&site, "demo#1");
        (delivery["attempts"].as_u64() > Some(0)).then_some(delivery)
    });
    assert!(!ran.exists(), "{delivery}");
    assert_eq!(delivery["state"], "given_up", "{delivery}");
    let status = site.relay(&["status", "demo"]);
    let line = status.lines().find(|line| line.contains("codex given up")).unwrap_or_default();
    assert!(line.contains("start relay with the same CODEX_HOME"), "{status}");
}

#[test]
fn a_pipe_in_a_session_s_codex_home_delays_no_other_notice() {
    let site = Site::new(Engine::Local);
    let program = site.state_home().join("told");
    fs::write(&program, "#!/bin/sh\necho \"$RELAY_JOB\" >>\"$1\"\n").unwrap();
    let out = site.state_home().join("out");
    site.configure(&format!(
        "[notify]\ncommand = [\"sh\", \"{}\", \"{}\"]\non = [\"completed\"]\ncodex = \"true\"\n",
        program.display(),
        out.display()
    ));
    let home = planted_home(&site);
    let pipe = format!("rollout-2025-11-22T10-00-00-{THREAD}.jsonl");
    // Codex names the folders by local time, so the day may differ by one.
    for day in ["21", "22", "23"] {
        let folder = home.join("sessions/2025/11").join(day);
        fs::create_dir_all(&folder).unwrap();
        mkfifoat(CWD, folder.join(&pipe), Mode::RWXU).unwrap();
    }
    site.relay(&["up"]);
    assert!(launch_command(&site, &home, "first").output().unwrap().status.success());
    site.ended("first#1");
    let second = site.launch_shell("true", &["-n", "second"]);
    site.ended(&second);
    until("both notices were delivered", || {
        let received = fs::read_to_string(&out).unwrap_or_default();
        (received.contains("first#1") && received.contains("second#1")).then_some(())
    });
    until("the session of another home is given up", || {
        (codex_delivery(&site, "first#1")["state"] == "given_up").then_some(())
    });
}
