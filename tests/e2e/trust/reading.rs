//! Huge and many files in the registry: they must not cost commands and daemon much time or memory.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Instant;

use common::record::State;
use relay_tests::harness::{Engine, PATIENCE, Site, figures::figure, until};
use serde_json::{Value, json};

use super::planted_objects::{run_in_time, run_successfully};

/// Size of a huge file, in bytes; no disk of a test is so large.
const HUGE: u64 = 2 << 40;

fn site_with_an_ended_job() -> Site {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("echo done", &["-n", "old"]);
    site.relay(&["up"]);
    site.ended(&job);
    site
}

/// Creates a sparse file in the registry, which takes no disk space and is far too long to read.
fn plant_huge(site: &Site, name: &str) {
    let file = File::options().append(true).create(true).open(site.registry().join(name)).unwrap();
    file.set_len(HUGE).unwrap();
}

#[test]
fn a_huge_sparse_log_delays_no_reader_and_no_start_of_the_relay() {
    let site = site_with_an_ended_job();
    site.relay(&["down"]);
    for log in ["demo.2.events.jsonl", "old.1.events.jsonl"] {
        plant_huge(&site, log);
    }
    let started = Instant::now();
    for args in [&["events", "old"][..], &["explain", "old"], &["extend", "old", "1m"]] {
        let text = run_in_time(&site, args, "");
        assert!(!text.status.success(), "{args:?}");
        let stderr = String::from_utf8_lossy(&text.stderr);
        let is_reported = args[0] == "extend"
            || stderr.contains("is a sparse file with hardly any data and is not read: remove it");
        assert!(is_reported, "{args:?}: {stderr}");
    }
    assert!(run_in_time(&site, &["events"], "").status.success(), "events of readable logs are shown");
    run_successfully(&site, &["up"]);
    let job = site.launch_shell("true", &["-n", "demo"]);
    site.ended(&job);
    figure(&format!(
        "trust: with two event logs of 2 TiB of holes, three readers, a start and a job took {} ms",
        started.elapsed().as_millis()
    ));
    let mut names = fs::read_dir(site.registry()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut kept = |log: &str| names.any(|name| name.to_string_lossy() == format!(".refused-{log}-1"));
    assert!(kept("demo.2.events.jsonl"), "the file is set aside");
    // The site would read the huge files for its checks.
    for entry in fs::read_dir(site.registry()).unwrap().flatten() {
        if entry.metadata().unwrap().len() == HUGE {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    fs::remove_file(site.registry().join("old.1.json")).unwrap();
}

#[test]
fn the_lease_of_a_starting_relay_does_not_say_that_the_platform_is_ready() {
    let site = site_with_an_ended_job();
    let lease = fs::read(site.registry().join("relay.json")).unwrap();
    site.relay(&["down"]);
    // After the death of a relay its lease still says that the platform is ready.
    fs::write(site.registry().join("relay.json"), &lease).unwrap();
    let platform = || -> Value {
        let lease = fs::read(site.registry().join("relay.json")).unwrap_or_default();
        let lease: Value = serde_json::from_slice(&lease).unwrap_or_default();
        lease["platform"]["state"].clone()
    };
    assert_eq!(platform(), "ready");
    // A pipe without a writer blocks the next relay in the middle of its start.
    let state = site.state().join("relay.pem");
    fs::remove_file(&state).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &state, rustix::fs::Mode::RWXU).unwrap();
    let mut serve = site.command(&["serve"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("the lease says that the next relay is starting", || (platform() == "starting").then_some(()));
    serve.kill().unwrap();
    serve.wait().unwrap();
    fs::remove_file(&state).unwrap();
}

/// Runs a `relay` command; returns its peak memory, in MiB.
fn peak_mib(site: &Site, args: &[&str]) -> u64 {
    let mut command = site.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let status = format!("/proc/{}/status", pid.as_raw_nonzero());
    let mut child = child;
    let mut peak = 0;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        peak = kib.unwrap_or(0).max(peak);
        if child.try_wait().unwrap().is_some() {
            return peak / 1024;
        }
        assert!(Instant::now() < deadline, "relay {args:?} does not end");
        std::thread::yield_now();
    }
}

#[test]
fn many_large_records_are_not_held_in_memory() {
    let site = site_with_an_ended_job();
    let record = fs::read(site.registry().join("old.1.json")).unwrap();
    let mut record: Value = serde_json::from_slice(&record).unwrap();
    // A real record can have the first size; none can have the second.
    for (from, size) in [(1000, 1 << 20), (2000, 7 << 20)] {
        for number in from..from + 60 {
            record["job"] = json!(format!("forged#{number}"));
            record["state"] = json!(State::Completed);
            record["message"] = json!("x".repeat(size));
            fs::write(site.registry().join(format!("forged.{number}.json")), record.to_string()).unwrap();
        }
    }
    let commands: [&[&str]; 4] = [&["status"], &["status", "-a"], &["doctor"], &["status", "old"]];
    let peaks = commands.map(|args| peak_mib(&site, args));
    figure(&format!(
        "trust: beside 480 MiB of forged records, a command takes at most {} MiB",
        peaks.iter().max().unwrap()
    ));
    for number in (1000..1060).chain(2000..2060) {
        fs::remove_file(site.registry().join(format!("forged.{number}.json"))).unwrap();
    }
    assert!(peaks.iter().all(|peak| *peak < 100), "MiB of {commands:?}: {peaks:?}");
}
