//! Every state of a job has a way out, whatever prevents the normal end.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::codex::{self, THREAD};
use crate::support::disk::SmallDisk;
use crate::support::{Agent, Place, Relay, connected, connected_at, eventually, mark, processes};
use common::event::{EventBody, FailureKind, FinalState};
use common::job::{JobSpec, StepKind};
use common::rule::OnLimit;
use rustix::process::{Pid, Signal, kill_process};

async fn start(below: &[String], spec: impl FnOnce(&Agent) -> JobSpec) -> (Relay, Agent) {
    let (mut relay, agent) = connected_at(&serde_json::json!({}), &Place { below, ..Place::default() }).await;
    relay.start(&spec(&agent)).await;
    (relay, agent)
}

async fn run(spec: impl FnOnce(&Agent) -> JobSpec) -> (Relay, Agent) {
    let (mut relay, agent) = start(&[], spec).await;
    relay.until_finished("demo#1").await;
    (relay, agent)
}

#[tokio::test]
async fn a_codex_that_stays_after_a_failed_turn_is_ended_and_the_turn_is_the_reason() {
    let failed = r#"echo '{"type":"turn.failed","error":{"message":"boom"}}'"#;
    let mark = mark();
    let (relay, _agent) = run(|agent| {
        let mut spec = codex::job(agent, "demo#1", &format!("{THREAD}; {failed}; exec sleep {mark}"));
        spec.limits.job_ms = 15_000;
        spec
    })
    .await;
    let error = relay.failure();
    assert_eq!(error.kind, FailureKind::CodexError, "{}", error.message);
}

#[tokio::test]
async fn a_command_that_never_gets_as_far_as_running_fails_at_the_limit_of_a_start() {
    // Only the `execve` of the shell is delayed.
    let words =
        "strace -D -f -qq -o /dev/null -P /usr/bin/sh -e trace=execve -e inject=execve:delay_enter=20000000";
    let below: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let (mut relay, _agent) = start(&below, |agent| {
        let mut spec = agent.shell("demo#1", "true");
        spec.env.insert("PATH".into(), "/usr/bin".into());
        spec.limits.steps.insert(StepKind::Start, 300);
        spec.limits.grace_ms = 100;
        spec
    })
    .await;
    relay.until_finished("demo#1").await;
    let error = relay.failure();
    assert_eq!(error.kind, FailureKind::StartTimeout);
    assert!(error.message.contains("300ms"), "{}", error.message);
}

#[tokio::test]
async fn a_job_whose_command_killed_its_shim_leaves_nothing_running_and_says_so() {
    let mark = mark();
    let (relay, _agent) =
        run(|agent| agent.shell("demo#1", &format!("kill -9 $PPID; sleep {mark}; :"))).await;
    assert_eq!(relay.failure().kind, FailureKind::SpawnFailed);
    eventually("nothing is left", || processes(&mark).is_empty()).await;
    let (killed, survivors) = relay.demo().cleanup().unwrap();
    assert!(killed >= 1 && survivors == 0, "{killed} killed, {survivors} survivors");
}

#[tokio::test]
async fn a_job_whose_shim_is_stopped_ends_all_the_same() {
    let mark = mark();
    // The leftover process stops the shim when the shim tries to end it.
    let left = format!("(trap 'kill -STOP $P; exec sleep {mark}' TERM; sleep 60 & wait) >/dev/null 2>&1 &");
    let (relay, _agent) = run(|agent| agent.shell("demo#1", &format!("P=$PPID; {left} exit 0"))).await;
    assert_eq!(relay.demo().finished(), Some((FinalState::Completed, None, Some(0))));
    let (killed, survivors) = relay.demo().cleanup().unwrap();
    assert!(killed >= 1 && survivors == 0, "{killed} killed, {survivors} survivors");
    eventually("nothing is left", || processes(&mark).is_empty()).await;
}

#[tokio::test]
async fn a_setup_over_its_limit_fails_with_the_limit_though_steps_are_to_be_interrupted() {
    let mark = mark();
    let (relay, _agent) = run(|agent| {
        let mut spec = agent.shell("demo#1", "true");
        spec.setup = vec![format!("exec sleep {mark}")];
        spec.limits.steps.insert(StepKind::Setup, 1500);
        spec.on_limit = OnLimit::Interrupt;
        spec
    })
    .await;
    let error = relay.failure();
    assert_eq!(error.kind, FailureKind::StepTimeout, "{}", error.message);
    assert!(error.message.contains("ran over its limit of 1s500ms"), "{}", error.message);
}

#[tokio::test]
async fn a_job_whose_shim_is_stopped_before_its_command_exits_ends_all_the_same() {
    let line = "until test -e go; do sleep 0.01; done; kill -STOP $PPID; exit 0";
    let (mut relay, agent) = start(&[], |agent| agent.shell("demo#1", line)).await;
    relay.until_run("demo#1", "runs", |run| run.started().is_some()).await;
    fs::write(agent.workspace().join("go"), "").unwrap();
    relay.until_finished("demo#1").await;
    assert_eq!(relay.failure().kind, FailureKind::SpawnFailed);
}

#[tokio::test]
async fn what_an_agent_inherits_reaches_no_command_and_keeps_nobody_from_stopping_it() {
    let words = "env --ignore-signal=CHLD --ignore-signal=HUP --block-signal=TERM sh -c";
    let mut below: Vec<String> = words.split(' ').map(str::to_owned).collect();
    below.extend(["umask 077; exec \"$@\"", "sh"].map(str::to_owned));
    let line = "umask; grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let (mut relay, mut agent) = start(&below, |agent| agent.shell("demo#1", line)).await;
    let run = relay.until_completed("demo#1").await;
    let text = run.text();
    // Signals above the 31 named ones belong to the C library.
    let masks: Vec<u64> = text
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split_once(":\t")?.1, 16).ok())
        .map(|mask| mask & 0x7fff_ffff)
        .collect();
    assert!(text.starts_with("0022\n") && masks == [0, 0], "{text}");
    agent.signal(Signal::TERM);
    eventually("the agent stops", || agent.child.try_wait().unwrap().is_some()).await;
}

#[tokio::test]
async fn a_command_that_would_open_an_editor_ends_at_once() {
    let line = "git init -q r && cd r && git config user.name a && git config user.email a@b && echo x >f && git add f \
                && git commit";
    let (relay, _agent) = run(|agent| agent.shell("demo#1", line)).await;
    assert_eq!(relay.failure().kind, FailureKind::Exited);
    let text = relay.demo().text();
    assert!(text.contains("Aborting commit due to empty commit message"), "{text}");
}

#[tokio::test]
async fn time_in_which_a_worker_is_held_back_counts_for_no_limit() {
    let disk = SmallDisk::new(3 * 1024);
    let place = Place { state: Some(disk.path()), ..Place::default() };
    let (mut relay, agent) = connected_at(&serde_json::json!({}), &place).await;
    let path = agent.dir.path().join("flood");
    fs::write(&path, codex::flood(30_000)).unwrap();
    let body = format!("until test -e go; do sleep 0.01; done; cat {}; touch done", path.display());
    let mut spec = codex::job(&agent, "demo#1", &codex::turn(&body));
    for kind in [StepKind::Model, StepKind::Command] {
        spec.limits.steps.insert(kind, 2000);
    }
    relay.start(&spec).await;
    relay.until_run("demo#1", "is accepted", |run| run.accepted > 0).await;
    let address = relay.leave().await;
    fs::write(agent.workspace().join("go"), "").unwrap();
    let waits = || fs::read_to_string(format!("/proc/{}/wchan", agent.child.id())).unwrap_or_default();
    eventually("the disk is full", || disk.free_kib() < 256 && waits().contains("epoll")).await;
    // The passing of time itself is tested: longer than the limit.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!agent.workspace().join("done").exists(), "the worker is not held back");
    relay.come_back(address).await;
    relay.accept().await;
    relay.until_completed("demo#1").await;
}

#[tokio::test]
async fn an_end_that_a_machine_slept_through_is_waited_for() {
    let mark = mark();
    let (mut relay, agent) =
        start(&[], |agent| agent.shell("demo#1", &format!("echo ready; exec sleep {mark}"))).await;
    relay.until_output("demo#1", "ready").await;
    let all: Vec<Pid> = crate::support::below(agent.child.id())
        .into_iter()
        .filter_map(|pid| Pid::from_raw(pid.cast_signed()))
        .collect();
    // Beside the command, git inspects the workspace for some milliseconds.
    let signal = |pids: &[Pid], signal| {
        for pid in pids {
            let _ = kill_process(*pid, signal);
        }
    };
    signal(&all[1..], Signal::STOP);
    relay.cancel("demo#1", 0).await;
    let stopping = |event: &common::event::Event| matches!(event.body, EventBody::Stopping { .. });
    relay.until_run("demo#1", "is being ended", |run| run.events.iter().any(stopping)).await;
    signal(&all[..1], Signal::STOP);
    // Longer than an end may take.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    signal(&all, Signal::CONT);
    let run = relay.until_finished("demo#1").await;
    assert_eq!(run.finished().map(|(state, ..)| state), Some(FinalState::Cancelled));
    assert_eq!(run.cleanup(), Some((1, 0)));
}

#[tokio::test]
async fn a_workspace_whose_disk_hangs_keeps_no_other_job_from_its_limits() {
    let (mut relay, agent) = connected().await;
    let log = agent.workspace().join(".codex-worker/slow.1/log.txt").display().to_string();
    let words =
        format!("-f -qq -o /dev/null -P {log} -e trace=write -e inject=write:delay_enter=30000000 -p");
    let pid = agent.child.id().to_string();
    let mut tracer =
        Command::new("strace").args(words.split(' ')).arg(&pid).stdin(Stdio::null()).spawn().unwrap();
    let is_attached = || {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .unwrap()
            .contains(&format!("TracerPid:\t{}", tracer.id()))
    };
    eventually("the agent is traced", is_attached).await;
    relay.start(&agent.shell("slow#1", "echo hello")).await;
    relay.until_output("slow#1", "hello").await;
    let mut spec = agent.shell("demo#1", &format!("exec sleep {}", mark()));
    spec.limits.steps.insert(StepKind::Command, 400);
    relay.start(&spec).await;
    relay.until_finished("demo#1").await;
    assert_eq!(relay.failure().kind, FailureKind::StepTimeout);
    let events = &relay.demo().events;
    let took = events.last().unwrap().at.duration_since(events[0].at);
    assert!(took.as_secs() < 4, "{took:?}");
    let slow = relay.until_finished("slow#1").await;
    assert_eq!(slow.finished(), Some((FinalState::Completed, None, Some(0))));
    let told = |event: &common::event::Event| matches!(&event.body, EventBody::Warning { message } if message.contains("did not respond"));
    assert!(slow.events.iter().any(told), "{:#?}", slow.events);
    tracer.kill().unwrap();
    tracer.wait().unwrap();
}

/// A command of Codex that cleans up on TERM. Like the real one, this Codex kills its command at an interrupt.
fn tidy() -> String {
    let command = r#""id":"item_1","type":"command_execution","command":"/bin/bash -lc ./tidy""#;
    let began =
        format!(r#"{{"type":"item.started","item":{{{command},"exit_code":null,"status":"in_progress"}}}}"#);
    let child = "sh -c 'trap \"rm lock; echo tidied >tidied; exit 1\" TERM; echo >lock; while :; do sleep 0.05; done'";
    let kills = "child=$!; trap \"kill -9 $child; exit 1\" INT; wait $child; wait $child";
    format!("{THREAD}; echo '{began}'; {child} & {kills}")
}

#[tokio::test]
async fn a_command_of_codex_hears_of_a_cancel_before_it_is_killed() {
    let (mut relay, agent) = start(&[], |agent| codex::job(agent, "demo#1", &tidy())).await;
    let lock = agent.workspace().join("lock");
    eventually("it holds its lock", || lock.exists()).await;
    relay.cancel("demo#1", 5000).await;
    relay.until_finished("demo#1").await;
    assert!(agent.workspace().join("tidied").exists() && !lock.exists());
    assert!(relay.demo().events.iter().any(|event| matches!(event.body, EventBody::Stopping { .. })));
}
