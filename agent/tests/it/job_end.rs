//! Tests of the end of jobs: no command leaves a process, whatever it does to survive.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms, p99, times};
use crate::support::{Agent, LONG_GRACE_MS, MAX_PROMPT_END, eventually, mark, processes, relay_and_agent};
use common::event::{Event, EventBody, FailureKind, FinalState};
use rustix::process::Signal;

/// Time for which the agent reads the output of processes that outlive their command.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Starts a shell job, waits until a `sleep` with `mark` runs, cancels the job, and checks that no process is left.
/// Returns the time from the cancel until the job has ended.
async fn cancel_job(line: &str, mark: &str, grace_ms: u64) -> Duration {
    let (mut relay, agent) = relay_and_agent().await;
    let mut spec = agent.shell_spec("demo#1", line);
    spec.limits.grace_ms = LONG_GRACE_MS;
    relay.start(&spec).await;
    relay.until_output("demo#1", "ready").await;
    eventually("the worker's children run", || !processes(&format!("sleep {mark}")).is_empty()).await;
    let begun = Instant::now();
    relay.cancel("demo#1", grace_ms).await;
    let run = relay.until_finished("demo#1").await;
    let took = begun.elapsed();
    assert_eq!(run.outcome().unwrap().0, FinalState::Cancelled);
    assert_eq!(run.cleanup().unwrap().1, 0);
    assert_eq!(processes(mark), [] as [u32; 0]);
    took
}

#[tokio::test]
async fn a_child_that_ignores_term_is_killed_after_the_grace_period() {
    let mark = mark();
    let line = format!("trap '' TERM; echo ready; sleep {mark}; sleep {mark}");
    let took = cancel_job(&line, &mark, 400).await;
    assert!(took >= Duration::from_millis(390) && took < MAX_PROMPT_END, "{took:?}");
}

#[tokio::test]
async fn p02_a_process_in_a_session_of_its_own_does_not_escape() {
    let mark = mark();
    cancel_job(&format!("setsid sleep {mark} & setsid -f sleep {mark}; echo ready; wait"), &mark, 2000).await;
}

#[tokio::test]
async fn p03_a_double_fork_with_closed_streams_does_not_escape() {
    let mark = mark();
    let line = format!(
        "(setsid sh -c 'trap \"\" TERM HUP; sleep {mark}; sleep {mark}' </dev/null >/dev/null 2>&1 &); echo ready; sleep {mark}"
    );
    cancel_job(&line, &mark, 500).await;
}

#[tokio::test]
async fn p06_stopped_processes_are_ended() {
    let mark = mark();
    let line = format!("sh -c 'sleep {mark} & kill -STOP $!; echo ready; kill -STOP $$; wait'; sleep {mark}");
    let took = cancel_job(&line, &mark, LONG_GRACE_MS).await;
    assert!(took < MAX_PROMPT_END, "{took:?}");
}

/// Runs a shell job whose command exits and leaves processes; returns the time from the command's start to the end of
/// the job. The command itself takes some milliseconds.
async fn run_with_leftovers(line: &str, mark: &str) -> Duration {
    let (mut relay, agent) = relay_and_agent().await;
    relay.start(&agent.shell_spec("demo#1", line)).await;
    let run = relay.until_finished("demo#1").await;
    let is_started = |event: &&Event| matches!(event.body, EventBody::Started { .. });
    let started = run.events.iter().find(is_started).unwrap().at;
    let took = run.events.last().unwrap().at.duration_since(started).unsigned_abs();
    assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))));
    assert!(run.cleanup().unwrap().0 >= 1 && run.cleanup().unwrap().1 == 0, "{:?}", run.cleanup());
    assert!(run.log_text().contains("ready"));
    assert_eq!(processes(mark), [] as [u32; 0]);
    took
}

#[tokio::test]
async fn p04_a_grandchild_with_open_stdout_delays_the_end_by_the_drain_only() {
    let mark = mark();
    let took = run_with_leftovers(&format!("sleep {mark} & echo ready; exit 0"), &mark).await;
    assert!(took >= DRAIN_TIME && took < MAX_PROMPT_END, "{took:?}");
    figure(&format!("stdout held by a grandchild (fault P04): job ended {} after its start", ms(took)));
}

#[tokio::test]
async fn p05_a_process_substitution_delays_the_end_by_the_drain_only() {
    let mark = mark();
    let line = format!("bash -c 'exec > >(sleep {mark}) 2>&1; true'; echo ready; sleep {mark} &");
    let took = run_with_leftovers(&line, &mark).await;
    assert!(took < MAX_PROMPT_END, "{took:?}");
    figure(&format!("process substitution (fault P05): job ended {} after its start", ms(took)));
}

#[tokio::test]
async fn a_left_process_without_open_stdout_does_not_delay_the_end() {
    let mark = mark();
    let line = format!("setsid sleep {mark} >/dev/null 2>&1 & echo ready");
    let mut took = Vec::new();
    // Some of the tries may be slow for another reason than a drain.
    while took.len() < 5 && took.last().is_none_or(|took| *took >= DRAIN_TIME) {
        took.push(run_with_leftovers(&line, &mark).await);
    }
    assert!(took.last().is_some_and(|took| *took < DRAIN_TIME), "{took:?}");
}

#[tokio::test]
async fn p13_the_workers_of_a_killed_agent_end_and_their_end_is_reported_later() {
    let (mut relay, mut agent) = relay_and_agent().await;
    let mark = mark();
    relay
        .start(&agent.shell_spec("demo#1", &format!("setsid sleep {mark} & echo ready; sleep {mark}")))
        .await;
    relay.until_output("demo#1", "ready").await;
    agent.kill();
    eventually("every process is gone", || processes(&mark).is_empty()).await;
    relay.drop_connection();
    agent.restart();
    let hello = relay.accept().await;
    assert_eq!(hello.jobs.len(), 1);
    let (state, error, _) = relay.until_finished("demo#1").await.outcome().unwrap();
    assert_eq!((state, error.unwrap().kind), (FinalState::Failed, FailureKind::AgentLost));
}

#[tokio::test]
async fn an_agent_that_gets_term_ends_its_jobs_delivers_their_events_and_exits() {
    let (mut relay, mut agent) = relay_and_agent().await;
    let mark = mark();
    relay.start(&agent.shell_spec("demo#1", &format!("echo ready; sleep {mark}"))).await;
    relay.until_output("demo#1", "ready").await;
    let begun = Instant::now();
    agent.signal(Signal::TERM);
    let (_, error, _) = relay.until_finished("demo#1").await.outcome().unwrap();
    let error = error.unwrap();
    assert_eq!(error.kind, FailureKind::AgentLost);
    assert!(error.message.contains("agent was stopped"), "{}", error.message);
    assert_eq!(processes(&mark), [] as [u32; 0]);
    eventually("the agent exits", || agent.child.try_wait().unwrap().is_some()).await;
    assert!(agent.child.wait().unwrap().success());
    assert!(begun.elapsed() < MAX_PROMPT_END);
}

/// Stops an agent with two signals during a job that ignores TERM; returns the time from the second signal to the end of
/// the job.
async fn signal_twice() -> Duration {
    let (mut relay, mut agent) = relay_and_agent().await;
    let mark = mark();
    relay
        .start(&agent.shell_spec("demo#1", &format!("trap '' TERM; echo ready; sleep {mark}; sleep {mark}")))
        .await;
    relay.until_output("demo#1", "ready").await;
    agent.signal(Signal::TERM);
    relay.until_run("demo#1", "is stopping", |run| run.event_types().contains(&"stopping".to_owned())).await;
    let begun = Instant::now();
    agent.signal(Signal::INT);
    relay.until_finished("demo#1").await;
    let took = begun.elapsed();
    assert_eq!(processes(&mark), [] as [u32; 0]);
    eventually("the agent exits", || agent.child.try_wait().unwrap().is_some()).await;
    took
}

#[tokio::test]
async fn p17_a_second_signal_kills_at_once() {
    // Without the second signal the job is killed 4.5 s after the first. Some of the tries may be slow for another reason.
    let mut took = Vec::new();
    while took.len() < 5 && took.last().is_none_or(|took| *took >= Duration::from_secs(2)) {
        took.push(signal_twice().await);
    }
    let last = took.last().copied().unwrap();
    assert!(last < Duration::from_secs(2), "{took:?}");
    figure(&format!("second TERM (fault P17): job ended {} later", ms(last)));
}

/// Sleeps for less than `max`: the times of all rounds are spread evenly.
async fn sleep_for_round(round: u32, rounds: u32, max: Duration) {
    // 7919 is coprime to the number of rounds, so each of the times occurs once, in an irregular order.
    tokio::time::sleep(max * (round * 7919 % rounds) / rounds).await;
}

/// Returns the spec of a job with a setup command, a worker that ignores TERM, and a check.
fn three_commands(agent: &Agent, mark: &str) -> common::job::JobSpec {
    let mut spec =
        agent.shell_spec("demo#1", &format!("trap '' TERM; setsid sleep {mark} & sleep 0.2; echo ready"));
    spec.setup = vec!["sleep 0.1".into()];
    spec.checks = vec![format!("trap 'exit 1' TERM; sleep {mark} & wait $!")];
    spec
}

#[tokio::test]
async fn p13_an_agent_killed_at_any_instant_leaves_no_process_and_loses_no_event() {
    let rounds = times(10, 200);
    let mut not_started = 0;
    for round in 0..rounds {
        let ((mut relay, mut agent), mark) = (relay_and_agent().await, mark());
        relay.start(&three_commands(&agent, &mark)).await;
        relay.until_run("demo#1", "is accepted", |run| run.accept_count > 0).await;
        sleep_for_round(round, rounds, Duration::from_millis(600)).await;
        agent.kill();
        eventually("every process is gone", || processes(&mark).is_empty()).await;
        relay.drop_connection();
        agent.restart();
        relay.accept().await;
        // The fake relay checks that no event is missing, and that a repeated event is the same.
        let (state, error, _) = relay.until_finished("demo#1").await.outcome().unwrap();
        assert_eq!((state, error.unwrap().kind), (FinalState::Failed, FailureKind::AgentLost));
        not_started += u32::from(relay.demo().pid().is_none());
    }
    figure(&format!(
        "agent killed at {rounds} instants (fault P13): survivors 0, lost events 0, {not_started} before the job had started"
    ));
}

/// Stops an agent with TERM at an instant that depends on the round; returns the time until the agent exits.
async fn stop_agent(round: u32, rounds: u32) -> Duration {
    let ((mut relay, mut agent), mark) = (relay_and_agent().await, mark());
    relay.start(&three_commands(&agent, &mark)).await;
    sleep_for_round(round, rounds, Duration::from_millis(700)).await;
    let begun = Instant::now();
    agent.signal(Signal::TERM);
    // A job that the agent had not accepted before the signal has no outcome.
    let mut exited = None;
    relay
        .until_closed("the agent exits", |_| {
            exited = exited.or_else(|| agent.child.try_wait().unwrap());
            exited.is_some()
        })
        .await;
    let took = begun.elapsed();
    assert!(exited.unwrap().success());
    assert_eq!(processes(&mark), [] as [u32; 0]);
    if let Some(run) = relay.runs.values().next().filter(|run| run.accept_count > 0) {
        let ends = run.event_types().iter().filter(|kind| *kind == "finished").count();
        assert_eq!(ends, 1, "{:?}", run.event_types());
    }
    took
}

#[tokio::test]
async fn p16_an_agent_stopped_at_any_instant_reports_one_end_and_exits_in_time() {
    // Ten at a time, because each takes most of its grace period.
    let rounds = times(20, 1000);
    let mut took = Vec::new();
    for batch in 0..rounds / 10 {
        let ten = (0..10).map(|n| stop_agent(batch * 10 + n, rounds));
        took.extend(futures_util::future::join_all(ten).await);
    }
    let p99 = p99(took);
    assert!(p99 < MAX_PROMPT_END, "{p99:?}");
    figure(&format!(
        "agent stopped with TERM at {rounds} instants (fault P16): one outcome each, exit p99 {}",
        ms(p99)
    ));
}
