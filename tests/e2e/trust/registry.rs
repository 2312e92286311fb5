//! A session may replace anything in the registry with anything else: nothing outside is touched, and nothing waits.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use common::record::State;
use relay_tests::harness::{Engine, Site, until};

use super::planted::{Plant, STRANGER, bounded, outside, put, remove, snapshot, succeeds};

/// Every file of the registry, including those of an ended job, a future one, an archived one and an unknown one.
const FILES: &str = "\
    old.1.json old.1.spec old.1.log old.1.events.jsonl demo.1.json demo.1.spec demo.1.log \
    demo.1.events.jsonl gone.1.json gone.2.events.jsonl latest relay.json relay.lock relay.log api-token \
    event-ids reserve requests/a.json names/demo outbox/old.1.json outbox/old.1.shown sessions/s1.json \
    archive/kept.1.json archive/kept.1.log archive/kept.1.events.jsonl .new/.demo.1.spec.77";
const FOLDERS: [&str; 6] = ["requests", "names", "outbox", "sessions", "archive", ".new"];

const HOOK: &str = r#"{"hook_event_name":"SessionStart","session_id":"s1","cwd":"."}"#;

fn site() -> Site {
    let site = Site::new(Engine::Local);
    site.configure("[codex]\nsandbox = \"off\"\n");
    site
}

/// Runs every command that reads or writes the registry; each has to end, with any result.
fn every_command(site: &Site) {
    for args in [&["status"][..], &["status", "-a"], &["notices"], &["events"], &["doctor", "--json"]] {
        bounded(site, args, "");
    }
    for job in ["old.1", "demo.1", "gone.1", "kept.1", "demo"] {
        let about: [&[&str]; 8] = [
            &["status", "--json", job],
            &["explain", job],
            &["logs", job],
            &["events", job],
            &["wait", "--timeout", "200ms", job],
            &["cancel", "--grace", "1s", job],
            &["extend", job, "1m"],
            &["retry", "-q", job],
        ];
        for args in about {
            bounded(site, args, "");
        }
    }
    bounded(site, &["hook", "SessionStart"], HOOK);
    bounded(site, &["prune", "--keep", "0"], "");
}

/// Launches a job through the running daemon, or starts one, and waits for its end.
fn serves(site: &Site, name: &str) -> String {
    let workspace = site.workspace();
    let workspace = workspace.to_string_lossy();
    let job =
        succeeds(site, &["launch", "-q", "--runner", "shell", "-n", name, "-w", &workspace, "echo served"]);
    succeeds(site, &["wait", "--timeout", "20s", &job]);
    assert_eq!(succeeds(site, &["logs", &job]), "served");
    job
}

fn family(plant: Plant) {
    if !plant.can_be_made() {
        return;
    }
    let site = site();
    let outside = outside(&site);
    serves(&site, "old");
    succeeds(&site, &["down"]);
    let places: Vec<(&str, bool)> = FILES
        .split_whitespace()
        .map(|file| (file, false))
        .chain(FOLDERS.iter().map(|folder| (*folder, true)))
        .collect();
    for are_folders in [false, true] {
        for (name, is_folder) in places.iter().filter(|(_, is_folder)| *is_folder == are_folders) {
            // A folder can't have a hard link.
            if !(*is_folder && plant == Plant::HardLink) {
                put(plant, &site.registry().join(name), &outside, *is_folder);
            }
        }
        let before = snapshot(&outside);
        every_command(&site);
        let doctor = String::from_utf8_lossy(&bounded(&site, &["doctor", "--json"], "").stdout).into_owned();
        succeeds(&site, &["up"]);
        every_command(&site);
        let job = serves(&site, "demo");
        assert!(job.starts_with("demo#"), "{job}");
        succeeds(&site, &["down", "--force"]);
        assert_eq!(snapshot(&outside), before, "{plant:?}");
        assert!(doctor.contains("not opened") || (are_folders && plant == Plant::HardLink), "{doctor}");
    }
    remove(&site.registry());
}

#[test]
fn a_link_in_the_place_of_any_file_or_folder_changes_nothing_outside() {
    family(Plant::Link);
}

#[test]
fn a_second_name_of_a_file_outside_changes_nothing_there() {
    family(Plant::HardLink);
}

#[test]
fn a_fifo_in_the_place_of_any_file_or_folder_holds_nobody_up() {
    family(Plant::Fifo);
}

#[test]
fn a_folder_in_the_place_of_a_file_and_a_file_in_that_of_a_folder_are_set_aside() {
    family(Plant::WrongKind);
}

#[test]
fn a_device_in_the_place_of_any_file_or_folder_is_never_read() {
    family(Plant::Device);
}

#[test]
fn a_file_or_folder_of_another_user_is_set_aside() {
    family(Plant::OtherOwner);
}

#[test]
fn a_log_that_was_planted_before_the_launch_is_set_aside_and_the_job_has_its_own() {
    let site = site();
    let bashrc = site.home().join(".bashrc");
    fs::write(&bashrc, "# mine\n").unwrap();
    fs::create_dir_all(site.registry()).unwrap();
    for ending in ["log", "events.jsonl"] {
        symlink(&bashrc, site.registry().join(format!("demo.1.{ending}"))).unwrap();
    }
    assert_eq!(serves(&site, "demo"), "demo#1");
    assert_eq!(fs::read_to_string(&bashrc).unwrap(), "# mine\n");
    assert_eq!(fs::read_link(site.registry().join(".refused-demo.1.log-1")).unwrap(), bashrc);
    let doctor = String::from_utf8_lossy(&bounded(&site, &["doctor"], "").stdout).into_owned();
    assert!(doctor.contains(".refused-demo.1.log-1 is a symbolic link"), "{doctor}");
}

#[test]
fn folders_replaced_while_the_relay_runs_come_back_and_nothing_outside_changes() {
    let site = site();
    let outside = outside(&site);
    site.relay(&["up"]);
    let job = site.launch_shell("until test -e go; do sleep 0.02; done; echo went", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    for folder in FOLDERS {
        put(Plant::Link, &site.registry().join(folder), &outside, true);
    }
    for file in ["demo.1.log", "demo.1.json", "relay.json", "event-ids"] {
        put(Plant::Fifo, &site.registry().join(file), &outside, false);
    }
    let before = snapshot(&outside);
    site.write("workspace-projects/demo/go", "");
    until("the job ended", || {
        let said = bounded(&site, &["status", "--json", &job], "");
        String::from_utf8_lossy(&said.stdout).contains("\"state\":\"completed\"").then_some(())
    });
    serves(&site, "demo");
    bounded(&site, &["hook", "SessionStart"], HOOK);
    bounded(&site, &["prune", "--keep", "0"], "");
    assert_eq!(snapshot(&outside), before);
    remove(&site.registry());
}

#[test]
fn a_registry_of_another_user_is_read_and_left_as_it_is() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = site();
    let job = serves(&site, "demo");
    succeeds(&site, &["down"]);
    give(&site.registry(), STRANGER);
    let before = snapshot(&site.registry());
    let workspace = site.workspace();
    let workspace = workspace.to_string_lossy();
    let launch = ["launch", "-q", "--runner", "shell", "-w", &workspace, "true"];
    let changes: [&[&str]; 6] =
        [&launch, &["retry", &job], &["prune", "--keep", "0"], &["up"], &["down"], &["notices"]];
    for args in changes {
        let output = bounded(&site, args, "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        if args != ["notices"] {
            assert_eq!(output.status.code(), Some(5), "relay {args:?}: {stderr}");
            assert!(stderr.contains("belongs to user 12345"), "relay {args:?}: {stderr}");
        }
    }
    for args in [&["status", &job][..], &["logs", &job], &["events", &job], &["notices", "--peek"]] {
        succeeds(&site, args);
    }
    assert_eq!(snapshot(&site.registry()), before);
    give(&site.registry(), 0);
}

/// Changes the owner of a folder and of everything in it.
fn give(folder: &Path, user: u32) {
    chown(folder, Some(user), Some(user)).unwrap();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            give(&entry.path(), user);
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(user), Some(user)).unwrap();
        }
    }
}

#[test]
fn what_a_killed_launch_has_left_is_removed_by_the_next_launch_and_by_the_relay() {
    let site = site();
    let secret = r#"{"env":{"TOKEN":"secret"}}"#;
    let left = |name: &str| site.registry().join(name);
    succeeds(&site, &["up"]);
    site.write("platform/workers/.new/.demo.9.spec.999999", secret);
    serves(&site, "demo");
    assert!(!left(".new/.demo.9.spec.999999").exists());
    succeeds(&site, &["down"]);
    for name in [".demo.9.spec.999999", "demo.9.spec", ".new/.demo.8.spec.999999"] {
        site.write(&format!("platform/workers/{name}"), secret);
    }
    succeeds(&site, &["up"]);
    for name in [".demo.9.spec.999999", "demo.9.spec", ".new/.demo.8.spec.999999"] {
        assert!(!left(name).exists(), "{name}");
    }
}

#[test]
fn settings_that_are_no_file_are_refused_in_one_line() {
    let site = site();
    let outside = outside(&site);
    let settings = site.root().join("platform/relay.toml");
    let good = fs::read_to_string(&settings).unwrap();
    let workspace = site.workspace();
    let workspace = workspace.to_string_lossy();
    let launch = ["launch", "-q", "--runner", "shell", "-w", &workspace, "true"];
    for plant in [Plant::Link, Plant::Fifo, Plant::WrongKind, Plant::Device] {
        if plant.can_be_made() {
            put(plant, &settings, &outside, false);
            for args in [&launch[..], &["up"]] {
                let output = bounded(&site, args, "");
                let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                assert_eq!(output.status.code(), Some(2), "{plant:?}: {stderr}");
                assert!(stderr.contains("relay.toml") && stderr.lines().count() == 1, "{plant:?}: {stderr}");
            }
            bounded(&site, &["doctor", "--json"], "");
        }
    }
    let _ = fs::remove_file(&settings);
    site.write("platform/relay.toml", &"#".repeat((1 << 20) + 1));
    assert!(site.refused(2, &launch).contains("has more than 1048576 bytes"));
    fs::write(&settings, good).unwrap();
}
