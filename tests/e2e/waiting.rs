//! `relay wait` for many jobs, and the health of jobs whose relay is silent.

use std::fs;
use std::process::{Command, Stdio};

use common::record::{JobRecord, State};
use relay_tests::harness::figures::figure;
use relay_tests::harness::{Engine, Site, until};
use rustix::process::{Pid, Signal, kill_process};

/// Returns the CPU time of child processes, in seconds, from the output of bash's `times`.
fn cpu_seconds(times: &str) -> f64 {
    let part = |text: &str| {
        let (minutes, seconds) = text.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    };
    times.lines().last().unwrap().split_whitespace().map(part).sum()
}

#[test]
fn a_wait_for_a_thousand_jobs_prints_each_outcome_and_uses_little_cpu_time() {
    let site = Site::new(Engine::Local);
    // No relay is started, because the settings are not approved: the test itself writes the records.
    let launched = site.command_without_approval(&[
        "launch",
        "-q",
        "--runner",
        "shell",
        "-w",
        "workspace-projects/demo",
        "true",
    ]);
    let _ = { launched }.output().unwrap();
    let first = fs::read_to_string(site.registry().join("demo.1.json")).unwrap();
    let record: JobRecord = serde_json::from_str(&first).unwrap();
    let jobs: Vec<String> = (1..=1000).map(|n| format!("demo#{n}")).collect();
    let write = |n: usize, done: bool| {
        let mut record = record.clone();
        record.job = jobs[n - 1].parse().unwrap();
        if done {
            record.state = State::Completed;
            record.finished_at = Some(jiff::Timestamp::now());
        }
        let (new, path) = (site.root().join("new"), site.registry().join(format!("demo.{n}.json")));
        fs::write(&new, record.to_bytes().unwrap()).unwrap();
        fs::rename(&new, path).unwrap();
    };
    (1..=1000).for_each(|n| write(n, false));
    let wait = site.command_without_approval(&["wait", "--json"]);
    let mut shell = Command::new("bash");
    shell.args(["-c", "\"$@\" >out 2>err; echo $? >code; times", "bash"]).arg(wait.get_program());
    shell.args(wait.get_args()).args(&jobs).current_dir(site.root()).stdout(Stdio::piped());
    for (name, value) in wait.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let child = shell.spawn().unwrap();
    until("relay wait follows the jobs", || {
        let text = fs::read_to_string(site.root().join("err")).unwrap_or_default();
        text.contains("no news of").then_some(()).or_else(|| text.contains("queued").then_some(()))
    });
    for n in 1..=1000 {
        write(n, true);
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    let cpu = cpu_seconds(&String::from_utf8_lossy(&output.stdout));
    let read = |name: &str| fs::read_to_string(site.root().join(name)).unwrap();
    assert_eq!(read("code").trim(), "0", "{}", read("err"));
    assert_eq!(read("out").lines().count(), 1000);
    let stderr_lines = read("err").lines().count();
    figure(&format!("a wait for 1,000 jobs took {cpu:.2} s of CPU and said {stderr_lines} lines beside"));
    // The bounds are generous: looking at all jobs after each change would take minutes.
    assert!(cpu < 15.0 && stderr_lines <= 30, "{cpu} s, {}", read("err"));
}

#[test]
fn a_wait_that_times_out_names_only_the_jobs_that_have_not_ended() {
    let site = Site::new(Engine::Local);
    let ended = site.launch_shell("true", &[]);
    let goes_on = site.launch_shell("sleep 1000", &[]);
    site.ended(&ended);
    let output = site.run(&["wait", &ended, &goes_on, "--timeout", "100ms"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(8), "{stderr}");
    assert!(
        stderr.contains(&format!("not ended after 100ms: {goes_on}")) && !stderr.contains(&ended),
        "{stderr}"
    );
    site.relay(&["cancel", "--grace", "1s", &goes_on]);
}

#[test]
fn a_job_whose_relay_is_silent_is_stale_and_not_healthy() {
    let site = Site::new(Engine::Local);
    let job = site.launch_running("sleep 1000", &[]);
    let relay = i32::try_from(site.daemon_pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(relay, Signal::STOP).unwrap();
    // The lease is changed as if the relay was stopped twenty seconds ago.
    let path = site.registry().join("relay.json");
    let mut lease: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let then = jiff::Timestamp::now() - std::time::Duration::from_secs(20);
    lease["heartbeat_at"] = then.to_string().into();
    fs::write(&path, lease.to_string()).unwrap();
    let stdout = site.relay(&["status", &job]);
    assert!(stdout.contains("stale: ") && stdout.contains("has been silent for 2"), "{stdout}");
    assert!(!stdout.contains("healthy") && !stdout.contains("connected"), "{stdout}");
    kill_process(relay, Signal::CONT).unwrap();
    until("the job is healthy again", || site.relay(&["status", &job]).contains("healthy").then_some(()));
    site.relay(&["cancel", "--grace", "1s", &job]);
}
