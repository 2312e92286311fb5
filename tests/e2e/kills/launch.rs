//! Tests that kill `relay launch` at each system call that changes a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::record::{JobRecord, State};
use relay_tests::harness::figures::figure;
use relay_tests::harness::{Engine, Site};

use super::CALLS;

/// Runs `relay launch`, killed at the beginning of its nth `call`; returns its stdout, or `None` if it was not killed.
fn kill_launch(site: &Site, call: &str, nth: u32, flags: &[&str]) -> Option<String> {
    let launch = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"];
    let launch = site.command(&[&launch, flags].concat());
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=SIGKILL:when={nth}"), "--"]);
    strace.arg(launch.get_program()).args(launch.get_args()).current_dir(site.root()).stderr(Stdio::null());
    let output = strace.env("HOME", site.root()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!output.status.success()).then_some(stdout)
}

/// Returns the names in a folder for which `is_left` returns true: files that should have been removed.
fn left_behind(folder: &Path, is_left: impl Fn(&str) -> bool) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| is_left(name)).collect()
}

#[test]
fn s08_a_launch_killed_at_any_system_call_leaves_a_complete_job_or_none() {
    let site = Site::up(Engine::Local);
    let (mut states, mut promised) = (0, BTreeSet::new());
    for call in CALLS {
        for nth in 1.. {
            let Some(stdout) = kill_launch(&site, call, nth, &[]) else { break };
            states += 1;
            promised.extend((!stdout.is_empty()).then_some(stdout));
            assert!(nth < 200, "{call} is called without end");
        }
    }
    // A launch after a crash works as if nothing had happened.
    let last = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&last).state, State::Completed);
    let staging = site.registry().join(".new");
    // An empty file may belong to another launch that has just created it.
    let has_content =
        |name: &str| fs::metadata(staging.join(name)).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    assert_eq!(left_behind(&staging, has_content), [""; 0]);
    let listed = || -> Vec<JobRecord> {
        let listed = site.relay(&["status", "-a", "-n", "1000", "--json"]);
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // All jobs must have ended before `down`. The relay finds a launch that died before its hint by a regular scan.
    for record in listed() {
        site.ended(&record.job.to_string());
    }
    site.relay(&["down"]);
    site.relay(&["up"]);
    let without_record = |name: &str| {
        name.strip_suffix(".spec").is_some_and(|stem| !site.registry().join(format!("{stem}.json")).exists())
    };
    assert_eq!(left_behind(&site.registry(), without_record), [""; 0], "a spec without a record is left");
    let jobs = listed();
    let existing: BTreeSet<String> = jobs.iter().map(|record| record.job.to_string()).collect();
    assert_eq!(
        promised.difference(&existing).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "printed, but not in the registry"
    );
    for record in &jobs {
        assert_eq!(site.ended(&record.job.to_string()).state, State::Completed);
        assert!(record.job.number() <= jobs.iter().map(|record| record.job.number()).max().unwrap());
    }
    figure(&format!(
        "launch killed at {states} system calls (fault S08): {} complete jobs, 0 incomplete ones, {} printed",
        jobs.len(),
        promised.len()
    ));
    assert!(states > 10);
}

#[test]
fn a_launch_with_a_key_killed_at_any_call_and_repeated_creates_one_job() {
    let site = Site::new(Engine::Local);
    site.approve();
    let mut kills = 0;
    for call in ["write", "fdatasync", "fsync", "renameat2", "ftruncate"] {
        for nth in 1.. {
            let key = format!("{call}-{nth}");
            let before = site.relay(&["status", "-a", "-n", "1000", "--json"]).lines().count();
            let was_killed = kill_launch(&site, call, nth, &["--key", &key]).is_some();
            site.launch_shell("true", &["--key", &key]);
            let after = site.relay(&["status", "-a", "-n", "1000", "--json"]).lines().count();
            assert_eq!(after - before, 1, "{key}");
            if !was_killed {
                break;
            }
            kills += 1;
            assert!(nth < 200, "{call} is called without end");
        }
    }
    assert!(kills > 10, "{kills}");
}
