//! The registry: its lock, its archive, its readers and its older versions.

use std::fs;
use std::path::Path;

use relay_tests::harness::figures::figure;
use relay_tests::harness::{Engine, Site, programs};

#[test]
fn s11_a_second_relay_on_a_registry_is_refused_and_names_the_first() {
    let site = Site::up(Engine::Local);
    let stderr = site.refused(2, &["serve"]);
    assert!(stderr.contains(&site.daemon_pid().to_string()), "{stderr}");
    figure(
        "a second relay on a registry (fault S11): refused with exit code 2, and the message names the first",
    );
}

#[test]
fn relay_up_and_relay_down_can_be_repeated() {
    let site = Site::new(Engine::Local);
    for _ in 0..2 {
        site.relay(&["up"]);
        site.relay(&["up"]);
        site.relay(&["down"]);
        site.relay(&["down"]);
    }
}

#[test]
fn ended_jobs_beyond_the_newest_200_are_archived_and_still_found() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("echo first", &[]));
    site.relay(&["down"]);
    // The test writes the records of 300 jobs that ended earlier, as the relay would have written them.
    let (record, events) = (site.registry().join("demo.1.json"), site.registry().join("demo.1.events.jsonl"));
    let record = fs::read_to_string(record).unwrap();
    for n in 0..300 {
        let name = format!("old-{n:03}");
        let record = record.replace("demo#1", &format!("{name}#1")).replace("demo.1", &format!("{name}.1"));
        let finished = format!("\"finished_at\":\"2020-01-01T00:{:02}:{:02}Z\"", n / 60, n % 60);
        let at = record.find("\"finished_at\":").unwrap();
        let end = at + record[at..].find(',').unwrap();
        let record = format!("{}{finished}{}", &record[..at], &record[end..]);
        fs::write(site.registry().join(format!("{name}.1.json")), record).unwrap();
        fs::write(site.registry().join(format!("{name}.1.log")), format!("log of {name}\n")).unwrap();
    }
    site.relay(&["up"]);
    site.relay(&["down"]);
    let left = fs::read_dir(site.registry()).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("old-")).count();
    assert_eq!(left, 2 * 199, "199 of these jobs and demo#1 stay");
    assert!(site.registry().join("archive/old-000.1.json").exists());
    assert_eq!(site.log("old-000"), "log of old-000\n");
    assert_eq!(site.relay(&["status", "--json", "old-000"]).lines().count(), 1);
    assert_eq!(site.relay(&["status", "-a", "-n", "1000", "--json"]).lines().count(), 301);
    let next = site.launch_shell("true", &["-n", "old-000"]);
    assert_eq!(next, "old-000#2", "an archived number is not used again");
    site.ended(&next);
    assert!(events.exists());
    for n in 0..300 {
        // These jobs have no event logs, with which the site compares records at its end.
        let _ = fs::remove_file(site.registry().join(format!("old-{n:03}.1.json")));
    }
}

#[test]
fn a_reader_of_a_record_never_gets_a_part_of_it() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("for i in $(seq 200); do echo $i; done; sleep 0.5", &[]);
    let path = site.registry().join("demo.1.json");
    for _ in 0..2000 {
        let bytes = fs::read(&path).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
    }
    site.ended(&job);
}

#[test]
fn a_registry_of_version_1_is_still_readable() {
    let site = Site::up(Engine::Local);
    site.relay(&["down"]);
    let golden = programs::workspace().join("tests/golden/registry-v1");
    for entry in fs::read_dir(&golden).unwrap().flatten() {
        fs::copy(entry.path(), site.registry().join(entry.file_name())).unwrap();
    }
    // The record of demo#1 is removed, so that the relay rebuilds it from the old log.
    fs::remove_file(site.registry().join("demo.1.json")).unwrap();
    site.relay(&["up"]);
    for job in ["demo.1", "demo.2"] {
        let read = |dir: &Path| -> serde_json::Map<String, serde_json::Value> {
            serde_json::from_slice(&fs::read(dir.join(format!("{job}.json"))).unwrap()).unwrap()
        };
        let (mut old, mut new) = (read(&golden), read(&site.registry()));
        // Since then fields were added, and the wording of the summary has changed.
        new.retain(|field, _| old.contains_key(field));
        if job == "demo.1" {
            // Since then the start of a job is that of its first step.
            old.insert("started_at".to_owned(), "2026-11-22T18:23:51.567Z".into());
        }
        let (old_summary, new_summary) = (old.remove("summary").unwrap(), new.remove("summary").unwrap());
        similar_asserts::assert_eq!(old, new);
        let first = |text: &serde_json::Value| {
            let line = text.as_str().unwrap().lines().next().unwrap_or_default();
            line.split(" after ").next().map(str::to_owned)
        };
        assert_eq!(first(&old_summary), first(&new_summary));
    }
    assert!(site.relay(&["status", "demo.1"]).contains("Good morning"));
    assert!(site.relay(&["status", "demo.2"]).contains("401"));
    let spec = fs::read_to_string(golden.join("demo.2.spec")).unwrap();
    assert!(serde_json::from_str::<common::job::JobSpec>(&spec).is_ok());
    // The site would compare the old record of demo#2 with the fold of the present version.
    fs::remove_file(site.registry().join("demo.2.events.jsonl")).unwrap();
}
