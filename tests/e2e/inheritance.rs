//! A relay inherits no signal settings, umask, working folder or open files of the program that starts it.

use std::fs::{self, File};
use std::process::Command;

use common::record::State;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

/// Returns a field of a process's `status` file in `/proc`.
fn status_field(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

fn signal_mask(pid: u32, field: &str) -> u64 {
    u64::from_str_radix(&status_field(pid, field), 16).unwrap()
}

#[test]
fn a_relay_started_with_blocked_signals_an_open_lock_and_no_umask_works_normally() {
    let site = Site::new(Engine::Local);
    let lock = site.root().join("lock");
    fs::write(&lock, "").unwrap();
    let up = site.command(&["up"]);
    let mut starter = Command::new("flock");
    starter.arg(&lock).args([
        "env",
        "--ignore-signal=CHLD,TERM,USR1",
        "--block-signal=CHLD,TERM,INT",
        "sh",
        "-c",
    ]);
    starter.arg("umask 0 && cd / && exec \"$0\" \"$@\"");
    starter.arg(up.get_program()).args(up.get_args()).arg("--root").arg(site.root()).current_dir(site.root());
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => starter.env(name, value),
            None => starter.env_remove(name),
        };
    }
    let output = starter.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    File::open(&lock).unwrap().try_lock().expect("the relay does not hold its caller's lock");

    let relay = site.daemon_pid();
    assert_eq!((signal_mask(relay, "SigBlk"), status_field(relay, "Umask").as_str()), (0, "0022"));
    // Every Rust program ignores SIGPIPE; signals above 31 belong to the C library.
    assert_eq!(signal_mask(relay, "SigIgn") & 0x7fff_ffff & !(1 << 12), 0);
    assert_eq!(fs::read_link(format!("/proc/{relay}/cwd")).unwrap(), site.root().canonicalize().unwrap());
    let agent: u32 = fs::read_to_string(site.agent().join("agent.lock")).unwrap().trim().parse().unwrap();
    assert_eq!((signal_mask(agent, "SigBlk"), signal_mask(agent, "SigIgn") & (1 << 16 | 1 << 14)), (0, 0));

    let job = site.launch_shell("umask; exit 3", &[]);
    assert_eq!(site.ended(&job).exit_code, Some(3));
    assert_eq!(site.log(&job), "0022\n");
    let job = site.launch_shell("true", &[]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    site.relay(&["down"]);
}
