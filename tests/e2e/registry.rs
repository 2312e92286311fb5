//! Many jobs, one registry.

use std::fs;
use std::path::Path;

use relay_tests::harness::figures::figure;
use relay_tests::harness::{Engine, Site, programs};

#[test]
fn s11_a_second_relay_refuses_and_names_the_first() {
    let site = Site::up(Engine::Local);
    let said = site.refused(2, &["serve"]);
    assert!(said.contains(&site.daemon_pid().to_string()), "{said}");
    figure("S11: a second relay on a registry is refused with exit code 2 and names the first");
}

#[test]
fn up_down_and_up_again_are_idempotent() {
    let site = Site::new(Engine::Local);
    for _ in 0..2 {
        site.relay(&["up"]);
        site.relay(&["up"]);
        site.relay(&["down"]);
        site.relay(&["down"]);
    }
}

#[test]
fn ended_jobs_beyond_the_newest_two_hundred_move_away_and_are_still_found() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("echo first", &[]));
    site.relay(&["down"]);
    // Jobs that ended before the real one, written as the relay writes them.
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
    assert_eq!(left, 2 * 199, "199 of them and the real one stay");
    assert!(site.registry().join("archive/old-000.1.json").exists());
    assert_eq!(site.log("old-000"), "log of old-000\n");
    assert_eq!(site.relay(&["status", "--json", "old-000"]).lines().count(), 1);
    assert_eq!(site.relay(&["status", "-a", "-n", "1000", "--json"]).lines().count(), 301);
    let next = site.launch_shell("true", &["-n", "old-000"]);
    assert_eq!(next, "old-000#2", "an archived number is not used again");
    site.ended(&next);
    assert!(events.exists());
    for n in 0..300 {
        // They have no event logs, which the site checks at its end.
        let _ = fs::remove_file(site.registry().join(format!("old-{n:03}.1.json")));
    }
}

#[test]
fn status_of_readers_in_a_loop_is_always_whole() {
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
fn a_registry_of_version_1_loads_for_ever() {
    let site = Site::up(Engine::Local);
    site.relay(&["down"]);
    let golden = programs::workspace().join("tests/golden/registry-v1");
    for entry in fs::read_dir(&golden).unwrap().flatten() {
        fs::copy(entry.path(), site.registry().join(entry.file_name())).unwrap();
    }
    // A lost record is rebuilt from the golden log, by today's fold.
    fs::remove_file(site.registry().join("demo.1.json")).unwrap();
    site.relay(&["up"]);
    for job in ["demo.1", "demo.2"] {
        let read = |dir: &Path| -> serde_json::Map<String, serde_json::Value> {
            serde_json::from_slice(&fs::read(dir.join(format!("{job}.json"))).unwrap()).unwrap()
        };
        let (mut then, mut now) = (read(&golden), read(&site.registry()));
        // Fields have been added since, and the wording of the closing text has changed.
        now.retain(|field, _| then.contains_key(field));
        if job == "demo.1" {
            // Today a job starts with its first step, and its duration counts from there.
            then.insert("started_at".to_owned(), "2026-11-22T18:23:51.567Z".into());
        }
        let (was, is) = (then.remove("summary").unwrap(), now.remove("summary").unwrap());
        similar_asserts::assert_eq!(then, now);
        let first = |text: &serde_json::Value| {
            let line = text.as_str().unwrap().lines().next().unwrap_or_default();
            line.split(" after ").next().map(str::to_owned)
        };
        assert_eq!(first(&was), first(&is));
    }
    assert!(site.relay(&["status", "demo.1"]).contains("Good morning"));
    assert!(site.relay(&["status", "demo.2"]).contains("401"));
    let spec = fs::read_to_string(golden.join("demo.2.spec")).unwrap();
    assert!(serde_json::from_str::<common::job::JobSpec>(&spec).is_ok());
    // An older relay wrote its record, but the site compares each record with today's fold.
    fs::remove_file(site.registry().join("demo.2.events.jsonl")).unwrap();
}
