//! Jobs end in every state, even if something prevents their normal end.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::codex::{self, BEGIN_TURN};
use crate::support::disk::SmallDisk;
use crate::support::{
    Agent, Relay, StartOptions, eventually, mark, processes, relay_and_agent, relay_and_agent_with,
};
use common::event::{EventBody, FailureKind, FinalState};
use common::job::{JobSpec, StepKind};
use common::rule::OnLimit;
use rustix::process::{Pid, Signal, kill_process};

async fn start(wrapper: &[String], spec: impl FnOnce(&Agent) -> JobSpec) -> (Relay, Agent) {
    let (mut relay, agent) =
        relay_and_agent_with(&serde_json::json!({}), &StartOptions { wrapper, ..StartOptions::default() })
            .await;
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
        let mut spec =
            codex::job_spec(agent, "demo#1", &format!("{BEGIN_TURN}; {failed}; exec sleep {mark}"));
        spec.limits.job_ms = 100_000;
        spec
    })
    .await;
    let error = relay.demo_error();
    assert_eq!(error.kind, FailureKind::CodexError, "{}", error.message);
}

#[tokio::test]
async fn a_command_that_never_begins_to_run_fails_at_the_start_limit() {
    // Only the `execve` of the shell is delayed.
    let words =
        "strace -D -f -qq -o /dev/null -P /usr/bin/sh -e trace=execve -e inject=execve:delay_enter=20000000";
    let wrapper: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let (mut relay, _agent) = start(&wrapper, |agent| {
        let mut spec = agent.shell_spec("demo#1", "true");
        spec.env.insert("PATH".into(), "/usr/bin".into());
        spec.limits.steps.insert(StepKind::Start, 300);
        spec.limits.grace_ms = 100;
        spec
    })
    .await;
    relay.until_finished("demo#1").await;
    let error = relay.demo_error();
    assert_eq!(error.kind, FailureKind::StartTimeout);
    assert!(error.message.contains("300ms"), "{}", error.message);
}

#[tokio::test]
async fn a_job_whose_command_kills_the_shim_fails_and_leaves_no_process() {
    let mark = mark();
    let (relay, _agent) =
        run(|agent| agent.shell_spec("demo#1", &format!("kill -9 $PPID; sleep {mark}; :"))).await;
    assert_eq!(relay.demo_error().kind, FailureKind::SpawnFailed);
    eventually("nothing is left", || processes(&mark).is_empty()).await;
    let (killed, survivors) = relay.demo().cleanup().unwrap();
    assert!(killed >= 1 && survivors == 0, "{killed} killed, {survivors} survivors");
}

#[tokio::test]
async fn a_job_ends_although_a_process_stops_its_shim() {
    let mark = mark();
    // The process that the command leaves stops the shim when the shim sends TERM.
    let leftover =
        format!("(trap 'kill -STOP $P; exec sleep {mark}' TERM; sleep 60 & wait) >/dev/null 2>&1 &");
    let (relay, _agent) =
        run(|agent| agent.shell_spec("demo#1", &format!("P=$PPID; {leftover} exit 0"))).await;
    assert_eq!(relay.demo().outcome(), Some((FinalState::Completed, None, Some(0))));
    let (killed, survivors) = relay.demo().cleanup().unwrap();
    assert!(killed >= 1 && survivors == 0, "{killed} killed, {survivors} survivors");
    eventually("nothing is left", || processes(&mark).is_empty()).await;
}

#[tokio::test]
async fn a_setup_over_its_limit_fails_the_job_even_with_on_limit_interrupt() {
    let mark = mark();
    let (relay, _agent) = run(|agent| {
        let mut spec = agent.shell_spec("demo#1", "true");
        spec.setup = vec![format!("exec sleep {mark}")];
        spec.limits.steps.insert(StepKind::Setup, 1500);
        spec.on_limit = OnLimit::Interrupt;
        spec
    })
    .await;
    let error = relay.demo_error();
    assert_eq!(error.kind, FailureKind::StepTimeout, "{}", error.message);
    assert!(error.message.contains("ran over its limit of 1s500ms"), "{}", error.message);
}

#[tokio::test]
async fn a_job_ends_although_its_shim_is_stopped_before_the_command_exits() {
    let line = "until test -e go; do sleep 0.01; done; kill -STOP $PPID; exit 0";
    let (mut relay, agent) = start(&[], |agent| agent.shell_spec("demo#1", line)).await;
    relay.until_run("demo#1", "runs", |run| run.pid().is_some()).await;
    fs::write(agent.workspace().join("go"), "").unwrap();
    relay.until_finished("demo#1").await;
    assert_eq!(relay.demo_error().kind, FailureKind::SpawnFailed);
}

#[tokio::test]
async fn signal_masks_and_umask_of_an_agent_reach_no_command_and_it_can_be_stopped() {
    let words = "env --ignore-signal=CHLD --ignore-signal=HUP --block-signal=TERM sh -c";
    let mut wrapper: Vec<String> = words.split(' ').map(str::to_owned).collect();
    wrapper.extend(["umask 077; exec \"$@\"", "sh"].map(str::to_owned));
    let line = "umask; grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let (mut relay, mut agent) = start(&wrapper, |agent| agent.shell_spec("demo#1", line)).await;
    let run = relay.until_completed("demo#1").await;
    let text = run.log_text();
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
async fn a_command_that_opens_an_editor_fails_at_once() {
    let line = "git init -q r && cd r && git config user.name a && git config user.email a@b && echo x >f && git add f \
                && git commit";
    let (relay, _agent) = run(|agent| agent.shell_spec("demo#1", line)).await;
    assert_eq!(relay.demo_error().kind, FailureKind::Exited);
    let text = relay.demo().log_text();
    assert!(text.contains("Aborting commit due to empty commit message"), "{text}");
}

#[tokio::test]
async fn time_in_which_a_worker_waits_for_a_full_disk_counts_for_no_limit() {
    let disk = SmallDisk::new(3 * 1024);
    let options = StartOptions { state: Some(disk.path()), ..StartOptions::default() };
    let (mut relay, agent) = relay_and_agent_with(&serde_json::json!({}), &options).await;
    let path = agent.dir.path().join("flood");
    fs::write(&path, codex::command_lines(30_000)).unwrap();
    // The limits begin with the turn, after the wait.
    let turn = codex::turn(&format!("cat {}; touch done", path.display()));
    let wait = "until test -e go; do sleep 0.01; done";
    let mut spec = codex::job_spec(&agent, "demo#1", &format!("{wait}; {turn}"));
    for kind in [StepKind::Model, StepKind::Command] {
        spec.limits.steps.insert(kind, 2000);
    }
    relay.start(&spec).await;
    relay.until_run("demo#1", "is accepted", |run| run.accept_count > 0).await;
    let address = relay.stop_listening().await;
    fs::write(agent.workspace().join("go"), "").unwrap();
    let wait_channel = || fs::read_to_string(format!("/proc/{}/wchan", agent.child.id())).unwrap_or_default();
    eventually("the disk is full", || disk.free_kib() < 256 && wait_channel().contains("epoll")).await;
    // Longer than the limit: the test needs time to pass.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!agent.workspace().join("done").exists(), "the worker does not wait");
    relay.listen_at(address).await;
    relay.accept().await;
    relay.until_completed("demo#1").await;
}

#[tokio::test]
async fn a_job_ends_normally_although_the_machine_slept_during_its_end() {
    let mark = mark();
    let (mut relay, agent) =
        start(&[], |agent| agent.shell_spec("demo#1", &format!("echo ready; exec sleep {mark}"))).await;
    relay.until_output("demo#1", "ready").await;
    let pids: Vec<Pid> = crate::support::process_tree(agent.child.id())
        .into_iter()
        .filter_map(|pid| Pid::from_raw(pid.cast_signed()))
        .collect();
    // A signal can fail: git, which inspects the workspace at the start, ends after some milliseconds.
    let signal = |pids: &[Pid], signal| {
        for pid in pids {
            let _ = kill_process(*pid, signal);
        }
    };
    signal(&pids[1..], Signal::STOP);
    relay.cancel("demo#1", 0).await;
    let stopping = |event: &common::event::Event| matches!(event.body, EventBody::Stopping { .. });
    relay.until_run("demo#1", "is being ended", |run| run.events.iter().any(stopping)).await;
    signal(&pids[..1], Signal::STOP);
    // Longer than the end of a job may take.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    signal(&pids, Signal::CONT);
    let run = relay.until_finished("demo#1").await;
    assert_eq!(run.outcome().map(|(state, ..)| state), Some(FinalState::Cancelled));
    assert_eq!(run.cleanup(), Some((1, 0)));
}

#[tokio::test]
async fn a_workspace_whose_disk_hangs_delays_no_other_job() {
    let (mut relay, agent) = relay_and_agent().await;
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
    relay.start(&agent.shell_spec("slow#1", "echo hello")).await;
    relay.until_output("slow#1", "hello").await;
    let mut spec = agent.shell_spec("demo#1", &format!("exec sleep {}", mark()));
    spec.limits.steps.insert(StepKind::Command, 400);
    relay.start(&spec).await;
    relay.until_finished("demo#1").await;
    assert_eq!(relay.demo_error().kind, FailureKind::StepTimeout);
    let events = &relay.demo().events;
    let took = events.last().unwrap().at.duration_since(events[0].at);
    // The disk hangs for 30 s.
    assert!(took.as_secs() < 20, "{took:?}");
    let slow = relay.until_finished("slow#1").await;
    assert_eq!(slow.outcome(), Some((FinalState::Completed, None, Some(0))));
    let is_warning = |event: &common::event::Event| matches!(&event.body, EventBody::Warning { message } if message.contains("did not respond"));
    assert!(slow.events.iter().any(is_warning), "{:#?}", slow.events);
    tracer.kill().unwrap();
    tracer.wait().unwrap();
}

/// Returns a script that runs instead of Codex, with a command that removes its lock file on TERM. Like the real Codex,
/// the script kills its command on INT.
fn codex_with_lock_file() -> String {
    let command =
        r#""id":"item_1","type":"command_execution","command":"/bin/bash -lc ./codex_with_lock_file""#;
    let began =
        format!(r#"{{"type":"item.started","item":{{{command},"exit_code":null,"status":"in_progress"}}}}"#);
    let child = "sh -c 'trap \"rm lock; echo tidied >tidied; exit 1\" TERM; echo >lock; while :; do sleep 0.05; done'";
    let kills = "child=$!; trap \"kill -9 $child; exit 1\" INT; wait $child; wait $child";
    format!("{BEGIN_TURN}; echo '{began}'; {child} & {kills}")
}

#[tokio::test]
async fn a_command_of_codex_gets_term_at_a_cancel_before_it_is_killed() {
    let (mut relay, agent) =
        start(&[], |agent| codex::job_spec(agent, "demo#1", &codex_with_lock_file())).await;
    let lock = agent.workspace().join("lock");
    eventually("the command has its lock file", || lock.exists()).await;
    relay.cancel("demo#1", 5000).await;
    relay.until_finished("demo#1").await;
    assert!(agent.workspace().join("tidied").exists() && !lock.exists());
    assert!(relay.demo().events.iter().any(|event| matches!(event.body, EventBody::Stopping { .. })));
}
