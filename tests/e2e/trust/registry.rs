//! Planted objects in the registry: nothing outside is read or changed, and no command hangs.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use common::record::State;
use relay_tests::harness::{Engine, Site, until};

use super::planted_objects::{
    OTHER_USER, PlantedObject, create_outside, plant, remove_planted, run_in_time, run_successfully, snapshot,
};

/// Files of jobs that are ended (`old`), next (`demo`), archived (`kept`) or without a record (`gone`), and others.
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

/// Runs every command that reads or writes the registry. Each must end in time, with any result.
fn run_all_commands(site: &Site) {
    for args in [&["status"][..], &["status", "-a"], &["notices"], &["events"], &["doctor", "--json"]] {
        run_in_time(site, args, "");
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
            run_in_time(site, args, "");
        }
    }
    run_in_time(site, &["hook", "SessionStart"], HOOK);
    run_in_time(site, &["prune", "--keep", "0"], "");
}

/// Launches a job, waits for its end and checks its output; returns the job. Starts a daemon if none is running.
fn run_job(site: &Site, name: &str) -> String {
    let workspace = site.workspace();
    let workspace = workspace.to_string_lossy();
    let job = run_successfully(
        site,
        &["launch", "-q", "--runner", "shell", "-n", name, "-w", &workspace, "echo served"],
    );
    run_successfully(site, &["wait", "--timeout", "100s", &job]);
    assert_eq!(run_successfully(site, &["logs", &job]), "served");
    job
}

/// Plants an object instead of every file and folder of the registry, and checks that relay still works.
fn check_planted(object: PlantedObject) {
    if !object.can_be_created() {
        return;
    }
    let site = site();
    let outside = create_outside(&site);
    run_job(&site, "old");
    run_successfully(&site, &["down"]);
    let places: Vec<(&str, bool)> = FILES
        .split_whitespace()
        .map(|file| (file, false))
        .chain(FOLDERS.iter().map(|folder| (*folder, true)))
        .collect();
    for are_folders in [false, true] {
        for (name, is_folder) in places.iter().filter(|(_, is_folder)| *is_folder == are_folders) {
            // A folder can't have a hard link.
            if !(*is_folder && object == PlantedObject::HardLink) {
                plant(object, &site.registry().join(name), &outside, *is_folder);
            }
        }
        let before = snapshot(&outside);
        run_all_commands(&site);
        let doctor =
            String::from_utf8_lossy(&run_in_time(&site, &["doctor", "--json"], "").stdout).into_owned();
        run_successfully(&site, &["up"]);
        run_all_commands(&site);
        let job = run_job(&site, "demo");
        assert!(job.starts_with("demo#"), "{job}");
        run_successfully(&site, &["down", "--force"]);
        assert_eq!(snapshot(&outside), before, "{object:?}");
        assert!(
            doctor.contains("not opened") || (are_folders && object == PlantedObject::HardLink),
            "{doctor}"
        );
    }
    remove_planted(&site.registry());
}

#[test]
fn a_symbolic_link_instead_of_any_file_or_folder_is_not_followed() {
    check_planted(PlantedObject::Link);
}

#[test]
fn a_hard_link_to_a_file_outside_does_not_change_that_file() {
    check_planted(PlantedObject::HardLink);
}

#[test]
fn a_fifo_instead_of_any_file_or_folder_blocks_no_command() {
    check_planted(PlantedObject::Fifo);
}

#[test]
fn a_folder_instead_of_a_file_and_a_file_instead_of_a_folder_are_set_aside() {
    check_planted(PlantedObject::WrongKind);
}

#[test]
fn a_device_instead_of_any_file_or_folder_is_never_read() {
    check_planted(PlantedObject::Device);
}

#[test]
fn a_file_or_folder_of_another_user_is_set_aside() {
    check_planted(PlantedObject::OtherOwner);
}

#[test]
fn a_link_instead_of_a_future_job_s_log_is_set_aside() {
    let site = site();
    let bashrc = site.home().join(".bashrc");
    fs::write(&bashrc, "# mine\n").unwrap();
    fs::create_dir_all(site.registry()).unwrap();
    for ending in ["log", "events.jsonl"] {
        symlink(&bashrc, site.registry().join(format!("demo.1.{ending}"))).unwrap();
    }
    assert_eq!(run_job(&site, "demo"), "demo#1");
    assert_eq!(fs::read_to_string(&bashrc).unwrap(), "# mine\n");
    assert_eq!(fs::read_link(site.registry().join(".refused-demo.1.log-1")).unwrap(), bashrc);
    let doctor = String::from_utf8_lossy(&run_in_time(&site, &["doctor"], "").stdout).into_owned();
    assert!(doctor.contains(".refused-demo.1.log-1 is a symbolic link"), "{doctor}");
}

#[test]
fn folders_replaced_while_the_relay_runs_are_created_again() {
    let site = site();
    let outside = create_outside(&site);
    site.relay(&["up"]);
    let job = site.launch_shell("until test -e go; do sleep 0.02; done; echo went", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    for folder in FOLDERS {
        plant(PlantedObject::Link, &site.registry().join(folder), &outside, true);
    }
    for file in ["demo.1.log", "demo.1.json", "relay.json", "event-ids"] {
        plant(PlantedObject::Fifo, &site.registry().join(file), &outside, false);
    }
    let before = snapshot(&outside);
    site.write("workspace-projects/demo/go", "");
    until("the job ended", || {
        let text = run_in_time(&site, &["status", "--json", &job], "");
        String::from_utf8_lossy(&text.stdout).contains("\"state\":\"completed\"").then_some(())
    });
    run_job(&site, "demo");
    run_in_time(&site, &["hook", "SessionStart"], HOOK);
    run_in_time(&site, &["prune", "--keep", "0"], "");
    assert_eq!(snapshot(&outside), before);
    remove_planted(&site.registry());
}

#[test]
fn a_registry_of_another_user_is_read_and_not_changed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = site();
    let job = run_job(&site, "demo");
    run_successfully(&site, &["down"]);
    set_owner(&site.registry(), OTHER_USER);
    let before = snapshot(&site.registry());
    let workspace = site.workspace();
    let workspace = workspace.to_string_lossy();
    let launch = ["launch", "-q", "--runner", "shell", "-w", &workspace, "true"];
    let changes: [&[&str]; 6] =
        [&launch, &["retry", &job], &["prune", "--keep", "0"], &["up"], &["down"], &["notices"]];
    for args in changes {
        let output = run_in_time(&site, args, "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        if args != ["notices"] {
            assert_eq!(output.status.code(), Some(5), "relay {args:?}: {stderr}");
            assert!(stderr.contains("belongs to user 12345"), "relay {args:?}: {stderr}");
        }
    }
    for args in [&["status", &job][..], &["logs", &job], &["events", &job], &["notices", "--peek"]] {
        run_successfully(&site, args);
    }
    assert_eq!(snapshot(&site.registry()), before);
    set_owner(&site.registry(), 0);
}

/// Changes the owner of a folder and of everything in it.
fn set_owner(folder: &Path, user: u32) {
    chown(folder, Some(user), Some(user)).unwrap();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            set_owner(&entry.path(), user);
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(user), Some(user)).unwrap();
        }
    }
}

#[test]
fn files_that_a_killed_launch_left_are_removed_by_the_next_launch_or_relay() {
    let site = site();
    let secret = r#"{"env":{"TOKEN":"secret"}}"#;
    let left = |name: &str| site.registry().join(name);
    run_successfully(&site, &["up"]);
    site.write("platform/workers/.new/.demo.9.spec.999999", secret);
    run_job(&site, "demo");
    assert!(!left(".new/.demo.9.spec.999999").exists());
    run_successfully(&site, &["down"]);
    for name in [".demo.9.spec.999999", "demo.9.spec", ".new/.demo.8.spec.999999"] {
        site.write(&format!("platform/workers/{name}"), secret);
    }
    run_successfully(&site, &["up"]);
    for name in [".demo.9.spec.999999", "demo.9.spec", ".new/.demo.8.spec.999999"] {
        assert!(!left(name).exists(), "{name}");
    }
}

#[test]
fn a_relay_toml_that_is_no_regular_file_is_refused_in_one_line() {
    let site = site();
    let outside = create_outside(&site);
    let settings = site.root().join("platform/relay.toml");
    let good = fs::read_to_string(&settings).unwrap();
    let workspace = site.workspace();
    let workspace = workspace.to_string_lossy();
    let launch = ["launch", "-q", "--runner", "shell", "-w", &workspace, "true"];
    for object in [PlantedObject::Link, PlantedObject::Fifo, PlantedObject::WrongKind, PlantedObject::Device]
    {
        if object.can_be_created() {
            plant(object, &settings, &outside, false);
            for args in [&launch[..], &["up"]] {
                let output = run_in_time(&site, args, "");
                let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                assert_eq!(output.status.code(), Some(2), "{object:?}: {stderr}");
                assert!(stderr.contains("relay.toml") && stderr.lines().count() == 1, "{object:?}: {stderr}");
            }
            run_in_time(&site, &["doctor", "--json"], "");
        }
    }
    let _ = fs::remove_file(&settings);
    site.write("platform/relay.toml", &"#".repeat((1 << 20) + 1));
    assert!(site.refused(2, &launch).contains("has more than 1048576 bytes"));
    fs::write(&settings, good).unwrap();
}
