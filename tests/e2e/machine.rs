//! Vitals of the machine: they are shown, and a job waits while the machine has too little memory or disk space.

use common::record::State;
use relay_tests::harness::tmux::Terminal;
use relay_tests::harness::{Engine, Site, until};
use serde_json::Value;

/// Returns settings with a minimum of free disk space.
fn settings_with_min_disk(disk: &str) -> String {
    format!("min_free_memory = \"0\"\nmin_free_disk = \"{disk}\"\n[codex]\nsandbox = \"off\"\n")
}

#[test]
fn a_job_waits_while_the_machine_has_too_little_disk_space_and_then_starts() {
    let site = Site::new(Engine::Local);
    site.configure(&settings_with_min_disk("4000000TiB"));
    let job = site.launch_shell("echo done", &[]);
    let status = until("the job says what it waits for", || {
        let status = site.relay(&["status", &job]);
        status.contains("less than the reserve").then_some(status)
    });
    assert!(status.contains("waits      the machine has "), "{status}");
    assert!(
        status.contains(" free on the disk of the workspaces, less than the reserve of 4096000000 GiB"),
        "{status}"
    );
    assert!(status.contains("([platform] min_free_disk)"), "{status}");
    let list = site.relay(&["status"]);
    assert!(list.contains("the machine has"), "{list}");
    let doctor = site.run(&["doctor", "--json"]);
    let findings = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let mut findings = findings.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let machine = findings.find(|finding| finding["check"] == "machine").unwrap();
    assert_eq!(machine["state"], "warn", "{machine}");
    assert_eq!(site.record(&job).state, State::Queued);

    site.configure(&settings_with_min_disk("0"));
    let up = site.run(&["up"]);
    let stderr = String::from_utf8_lossy(&up.stderr).into_owned();
    let advice = "restart needed for platform.min_free_disk: `relay restart` (workers go on)";
    assert!(stderr.contains(advice), "{stderr}");
    site.relay(&["restart", "--yes"]);
    assert_eq!(site.ended(&job).state, State::Completed);
    assert_eq!(site.log(&job), "done\n");
}

#[test]
fn vitals_are_shown_in_status_in_top_in_doctor_and_in_the_lease() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("true", &[]);
    site.ended(&job);
    let lease: Value = serde_json::from_str(&site.relay(&["up", "--json"])).unwrap();
    let vitals = &lease["platform"]["vitals"];
    for part in ["memory", "workspaces", "state"] {
        let [total, available] = ["total", "available"].map(|field| vitals[part][field].as_u64().unwrap());
        assert!(available <= total && total > 0, "{part}: {lease}");
    }
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    assert_eq!(vitals["cores"].as_u64(), Some(cores));
    assert_eq!(lease["platform"]["shortage"], Value::Null);
    let doctor = site.run(&["doctor"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("free for workspaces, "), "{doctor}");
    let terminal = Terminal::open(&site, 160, 24);
    terminal.press(&["relay status", "Enter"]);
    let shown = |screen: &str| screen.contains("memory free, ") && screen.contains(" disk free");
    terminal.wait_until_shown("the head line of status", shown);
    terminal.press(&["clear; relay top", "Enter"]);
    terminal.wait_until_shown("the head line of top", |screen| {
        screen.starts_with("relay ready") && shown(screen)
    });
    terminal.press(&["q"]);
}
