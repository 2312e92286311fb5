//! Registries that are locked, missing, read-only or another user's, and a relay with a very low limit on open files.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::strace::Strace;
use relay_tests::harness::{Engine, Site, processes, programs, until};

#[test]
fn s12_the_lock_is_free_at_once_after_a_kill_although_child_processes_live_on() {
    let site = Site::new(Engine::Local);
    let job = site.launch_running("sleep 1000", &[]);
    let lock = fs::File::open(site.registry().join("relay.lock")).unwrap();
    let started = Instant::now();
    processes::kill(site.daemon_pid());
    until("the lock is free", || lock.try_lock_shared().ok());
    let free = started.elapsed();
    lock.unlock().unwrap();
    let agent = site.agent();
    assert!(!processes::running(&agent.display().to_string()).is_empty() && !site.workers().is_empty());
    figure(&format!(
        "relay killed with kill -9 (fault S12): the lock was free {} later, with the agent and a worker alive",
        ms(free)
    ));
    // The worker would hold it for 1,000 s.
    assert!(free <= Duration::from_secs(30), "{free:?}");
    site.relay(&["up"]);
    site.relay(&["cancel", "--grace", "1s", &job]);
}

#[test]
fn a_relay_that_ends_keeps_the_lock_until_its_last_write() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("true", &[]);
    site.ended(&job);
    let newest = site.events(&job).iter().map(|line| line.id).max().unwrap();
    let calls = "renameat,renameat2";
    let options = ["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:delay_enter=200000")];
    let options = options.map(str::to_owned);
    let strace = Strace::attach(site.daemon_pid(), &options, &site.root().join("trace"));
    let relay = i32::try_from(site.daemon_pid()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(relay, rustix::process::Signal::TERM).unwrap();
    let lock = fs::File::open(site.registry().join("relay.lock")).unwrap();
    until("the lock is free", || lock.try_lock_shared().ok());
    let next = fs::read_to_string(site.registry().join("event-ids")).unwrap();
    assert_eq!(next.trim().parse(), Ok(newest + 1), "{:?}", strace.lines());
    lock.unlock().unwrap();
}

fn mount(args: &[&str]) {
    let output = Command::new("mount").args(args).output().unwrap();
    assert!(output.status.success(), "mount {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A mount point; dropping this value unmounts it.
struct MountPoint(String);

impl Drop for MountPoint {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

const LAUNCH: [&str; 6] = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo"];

#[test]
#[ignore = "mounts a file system"]
fn s13_an_unusable_registry_is_reported_in_one_line_and_reads_go_on() {
    let site = Site::new(Engine::Local);
    let launch: Vec<&str> = LAUNCH.into_iter().chain(["true"]).collect();
    assert_eq!(site.run(&["status"]).status.code(), Some(0), "a missing registry holds no jobs");
    let job = site.launch_shell("echo kept", &[]);
    site.ended(&job);
    site.relay(&["down"]);
    {
        let dir = site.registry().display().to_string();
        mount(&["--bind", &dir, &dir]);
        let _mount_point = MountPoint(dir.clone());
        mount(&["-o", "remount,ro,bind", &dir]);
        assert_eq!(site.relay(&["status", "--json", &job]).lines().count(), 1, "reads go on");
        for args in [launch.as_slice(), &["serve"], &["up"], &["cancel", "demo"]] {
            let code = if args[0] == "cancel" { 0 } else { 5 };
            let stderr = site.refused(code, args);
            assert!(code == 0 || stderr.contains("Read-only file system"), "{args:?}: {stderr}");
            assert!(stderr.lines().count() <= 1, "{args:?}: {stderr}");
        }
    }
    // The next project is below `/tmp`, where another user can reach it.
    let dir = tempfile::Builder::new().prefix("relay-owner-").tempdir_in("/tmp").unwrap();
    let root = dir.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(programs::dir().join("relay"), root.join("relay")).unwrap();
    fs::create_dir_all(root.join("platform/workers")).unwrap();
    fs::create_dir(root.join("demo")).unwrap();
    fs::set_permissions(root.join("demo"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(root.join("platform/relay.toml"), "[platform]\nengine = \"local\"\n").unwrap();
    fs::set_permissions(root.join("platform/workers"), fs::Permissions::from_mode(0o700)).unwrap();
    chown(root.join("platform/workers"), Some(0), Some(0)).unwrap();
    let run_as_other_user = |args: &[&str]| {
        let output = Command::new(root.join("relay"))
            .args(args)
            .current_dir(root)
            .env("HOME", root)
            .env_remove("RELAY_ROOT")
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    };
    for args in
        [&["launch", "-q", "--runner", "shell", "-w", "demo", "true"][..], &["status"], &["serve", "--yes"]]
    {
        let (code, stderr) = run_as_other_user(args);
        assert_eq!((code, stderr.lines().count()), (Some(5), 1), "{args:?}: {stderr}");
        assert!(stderr.contains("Permission denied"), "{args:?}: {stderr}");
    }
    figure(
        "read-only, missing and another user's registry (fault S13): exit code 5 and one line each, reads go on",
    );
}

#[test]
fn s14_a_relay_without_free_descriptors_goes_on_and_does_not_spin() {
    let site = Site::new(Engine::Local);
    let go = |name: &str| site.write(&format!("workspace-projects/demo/{name}"), "");
    site.relay(&["up"]);
    let relay = site.daemon_pid();
    let limited = Command::new("prlimit").args(["--nofile=32", "--pid", &relay.to_string()]).status();
    assert!(limited.unwrap().success());
    let line = "until test -e go; do sleep 0.02; done; echo done";
    let jobs: Vec<String> = (0..4).map(|_| site.launch_shell(line, &[])).collect();
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    let lease: serde_json::Value =
        serde_json::from_slice(&fs::read(site.registry().join("relay.json")).unwrap()).unwrap();
    let address: SocketAddr = lease["listen"][0].as_str().unwrap().parse().unwrap();
    let clients: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(address).unwrap()).collect();
    until("no descriptor is left", || {
        (fs::read_dir(format!("/proc/{relay}/fd")).unwrap().count() >= 32).then_some(())
    });
    let cpu = || {
        let stat = fs::read_to_string(format!("/proc/{relay}/schedstat")).unwrap();
        Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
    };
    let (started, before) = (Instant::now(), cpu());
    until("some time has passed", || (started.elapsed() >= Duration::from_secs(3)).then_some(()));
    let busy =
        (cpu().checked_sub(before).unwrap_or_default()).as_secs_f64() / started.elapsed().as_secs_f64();
    go("go");
    drop(clients);
    let ended = Instant::now();
    for job in &jobs {
        assert_eq!(site.ended(job).state, State::Completed);
    }
    let ended = ended.elapsed();
    until("the relay answers again", || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
    figure(&format!(
        "no free descriptor (fault S14): the relay used {:.1} % of a core; 4 of 4 jobs completed, the last one {} after descriptors were freed",
        busy * 100.0,
        ms(ended)
    ));
    assert!(busy < 0.4, "{busy}");
}
