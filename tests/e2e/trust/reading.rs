//! Files that a session puts into the registry cost its readers no more than the files of the relay's own jobs.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::{Engine, Site, figures::figure, until};
use serde_json::{Value, json};

use super::planted::{bounded, succeeds};

/// Size in bytes that exceeds any disk of a test.
const HUGE: u64 = 2 << 40;

fn site_with_an_ended_job() -> Site {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("echo done", &["-n", "old"]);
    site.relay(&["up"]);
    site.ended(&job);
    site
}

/// Creates a sparse file, which takes no space and is far too long to read.
fn plant_huge(site: &Site, name: &str) {
    let file = File::options().append(true).create(true).open(site.registry().join(name)).unwrap();
    file.set_len(HUGE).unwrap();
}

#[test]
fn a_log_of_holes_neither_holds_up_a_reader_nor_keeps_the_relay_from_starting() {
    let site = site_with_an_ended_job();
    site.relay(&["down"]);
    for log in ["demo.2.events.jsonl", "old.1.events.jsonl"] {
        plant_huge(&site, log);
    }
    let begun = Instant::now();
    for args in [&["events", "old"][..], &["explain", "old"], &["extend", "old", "1m"]] {
        let said = bounded(&site, args, "");
        assert!(!said.status.success(), "{args:?}");
        let stderr = String::from_utf8_lossy(&said.stderr);
        let told = args[0] == "extend"
            || stderr.contains("is a sparse file with hardly any data and is not read: remove it");
        assert!(told, "{args:?}: {stderr}");
    }
    assert!(bounded(&site, &["events"], "").status.success(), "of what can be read");
    succeeds(&site, &["up"]);
    let job = site.launch_shell("true", &["-n", "demo"]);
    site.ended(&job);
    figure(&format!(
        "trust: with two event logs of 2 TiB of holes, three readers, a start and a job took {} ms",
        begun.elapsed().as_millis()
    ));
    let mut names = fs::read_dir(site.registry()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut kept = |log: &str| names.any(|name| name.to_string_lossy() == format!(".refused-{log}-1"));
    assert!(kept("demo.2.events.jsonl"), "kept for a look");
    // The site reads its own files.
    for entry in fs::read_dir(site.registry()).unwrap().flatten() {
        if entry.metadata().unwrap().len() == HUGE {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    fs::remove_file(site.registry().join("old.1.json")).unwrap();
}

#[test]
fn a_relay_that_only_begins_is_not_taken_for_the_one_before_it() {
    let site = site_with_an_ended_job();
    let lease = fs::read(site.registry().join("relay.json")).unwrap();
    site.relay(&["down"]);
    // The state after a death: the lease says that the platform is ready.
    fs::write(site.registry().join("relay.json"), &lease).unwrap();
    let platform = || -> Value {
        let lease = fs::read(site.registry().join("relay.json")).unwrap_or_default();
        let lease: Value = serde_json::from_slice(&lease).unwrap_or_default();
        lease["platform"]["state"].clone()
    };
    assert_eq!(platform(), "ready");
    // A pipe without a writer blocks the next relay in the middle of its start, as any slow read would.
    let state = site.state().join("relay.pem");
    fs::remove_file(&state).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &state, rustix::fs::Mode::RWXU).unwrap();
    let mut serve = site.command(&["serve"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("the next one has the registry and says so", || (platform() == "starting").then_some(()));
    serve.kill().unwrap();
    serve.wait().unwrap();
    fs::remove_file(&state).unwrap();
}

/// Peak memory of a command, in MiB.
fn peak(site: &Site, args: &[&str]) -> u64 {
    let mut command = site.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let status = format!("/proc/{}/status", pid.as_raw_nonzero());
    let mut child = child;
    let mut peak = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
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
    // One size that a true record can have, and one that is larger than any.
    for (from, size) in [(1000, 1 << 20), (2000, 7 << 20)] {
        for number in from..from + 60 {
            record["job"] = json!(format!("forged#{number}"));
            record["state"] = json!(State::Completed);
            record["message"] = json!("x".repeat(size));
            fs::write(site.registry().join(format!("forged.{number}.json")), record.to_string()).unwrap();
        }
    }
    let commands: [&[&str]; 4] = [&["status"], &["status", "-a"], &["doctor"], &["status", "old"]];
    let peaks = commands.map(|args| peak(&site, args));
    figure(&format!(
        "trust: beside 480 MiB of forged records, a command takes at most {} MiB",
        peaks.iter().max().unwrap()
    ));
    for number in (1000..1060).chain(2000..2060) {
        fs::remove_file(site.registry().join(format!("forged.{number}.json"))).unwrap();
    }
    assert!(peaks.iter().all(|peak| *peak < 100), "MiB of {commands:?}: {peaks:?}");
}
