//! However a command tries to live on, an end is an end: nothing is left.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

mod support;

use std::time::{Duration, Instant};

use common::event::{FailureKind, FinalState};
use rustix::process::Signal;
use support::{Agent, Relay, eventually, mark, processes};

/// Starts a shell job, waits until `mark` shows up among the processes, cancels, and checks that nothing is left.
async fn cancelled(line: &str, mark: &str, grace_ms: u64) -> Duration {
    let mut relay = Relay::new().await;
    let agent = Agent::start(&relay.url());
    relay.accept().await;
    relay.start(&agent.shell("demo#1", line)).await;
    relay.until_output("demo#1", "ready").await;
    eventually("the worker's children run", || !processes(&format!("sleep {mark}")).is_empty()).await;
    let begun = Instant::now();
    relay.cancel("demo#1", grace_ms).await;
    let run = relay.until_finished("demo#1").await;
    let took = begun.elapsed();
    assert_eq!(run.finished().unwrap().0, FinalState::Cancelled);
    assert_eq!(run.cleanup().unwrap().1, 0);
    assert_eq!(processes(mark), [] as [u32; 0]);
    took
}

#[tokio::test]
async fn a_child_that_ignores_term_is_killed_after_the_grace() {
    let mark = mark();
    let line = format!("trap '' TERM; echo ready; sleep {mark}; sleep {mark}");
    let took = cancelled(&line, &mark, 400).await;
    assert!(took >= Duration::from_millis(390) && took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn a_session_of_its_own_does_not_escape() {
    let mark = mark();
    cancelled(&format!("setsid sleep {mark} & setsid -f sleep {mark}; echo ready; wait"), &mark, 2000).await;
}

#[tokio::test]
async fn a_double_fork_with_closed_streams_does_not_escape() {
    let mark = mark();
    let line = format!(
        "(setsid sh -c 'trap \"\" TERM HUP; sleep {mark}; sleep {mark}' </dev/null >/dev/null 2>&1 &); echo ready; sleep {mark}"
    );
    cancelled(&line, &mark, 500).await;
}

#[tokio::test]
async fn stopped_processes_are_ended_too() {
    let mark = mark();
    let line = format!("sh -c 'sleep {mark} & kill -STOP $!; echo ready; kill -STOP $$; wait'; sleep {mark}");
    let took = cancelled(&line, &mark, 3000).await;
    assert!(took < Duration::from_millis(3100), "{took:?}");
}

/// Runs a shell job that ends by itself while something of it lives on.
async fn leaves_behind(line: &str, mark: &str) -> Duration {
    let mut relay = Relay::new().await;
    let agent = Agent::start(&relay.url());
    relay.accept().await;
    let begun = Instant::now();
    relay.start(&agent.shell("demo#1", line)).await;
    let run = relay.until_finished("demo#1").await;
    let took = begun.elapsed();
    assert_eq!(run.finished(), Some((FinalState::Completed, None, Some(0))));
    assert!(run.cleanup().unwrap().0 >= 1 && run.cleanup().unwrap().1 == 0, "{:?}", run.cleanup());
    assert!(run.text().contains("ready"));
    assert_eq!(processes(mark), [] as [u32; 0]);
    took
}

#[tokio::test]
async fn a_grandchild_that_holds_stdout_delays_the_end_by_the_drain_only() {
    let mark = mark();
    let took = leaves_behind(&format!("sleep {mark} & echo ready; exit 0"), &mark).await;
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_process_substitution_delays_the_end_by_the_drain_only() {
    let mark = mark();
    let line = format!("bash -c 'exec > >(sleep {mark}) 2>&1; true'; echo ready; sleep {mark} &");
    leaves_behind(&line, &mark).await;
}

#[tokio::test]
async fn a_leftover_without_the_streams_does_not_delay_the_end() {
    let mark = mark();
    let took = leaves_behind(&format!("setsid sleep {mark} >/dev/null 2>&1 & echo ready"), &mark).await;
    assert!(took < Duration::from_millis(1900), "{took:?}");
}

#[tokio::test]
async fn an_agent_that_is_killed_takes_its_workers_along_and_says_so_later() {
    let mut relay = Relay::new().await;
    let mut agent = Agent::start(&relay.url());
    relay.accept().await;
    let mark = mark();
    relay.start(&agent.shell("demo#1", &format!("setsid sleep {mark} & echo ready; sleep {mark}"))).await;
    relay.until_output("demo#1", "ready").await;
    agent.kill();
    eventually("every process is gone", || processes(&mark).is_empty()).await;
    relay.drop_connection();
    agent.again();
    let hello = relay.accept().await;
    assert_eq!(hello.jobs.len(), 1);
    let (state, error, _) = relay.until_finished("demo#1").await.finished().unwrap();
    assert_eq!((state, error.unwrap().kind), (FinalState::Failed, FailureKind::AgentLost));
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_ends_its_jobs_delivers_and_exits_well() {
    let mut relay = Relay::new().await;
    let mut agent = Agent::start(&relay.url());
    relay.accept().await;
    let mark = mark();
    relay.start(&agent.shell("demo#1", &format!("echo ready; sleep {mark}"))).await;
    relay.until_output("demo#1", "ready").await;
    let begun = Instant::now();
    agent.signal(Signal::TERM);
    let (_, error, _) = relay.until_finished("demo#1").await.finished().unwrap();
    let error = error.unwrap();
    assert_eq!(error.kind, FailureKind::AgentLost);
    assert!(error.message.contains("told to stop"), "{}", error.message);
    assert_eq!(processes(&mark), [] as [u32; 0]);
    eventually("the agent exits", || agent.child.try_wait().unwrap().is_some()).await;
    assert!(agent.child.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(9));
}

#[tokio::test]
async fn a_second_signal_kills_at_once() {
    let mut relay = Relay::new().await;
    let mut agent = Agent::start(&relay.url());
    relay.accept().await;
    let mark = mark();
    relay
        .start(&agent.shell("demo#1", &format!("trap '' TERM; echo ready; sleep {mark}; sleep {mark}")))
        .await;
    relay.until_output("demo#1", "ready").await;
    agent.signal(Signal::TERM);
    let stopping =
        |relay: &mut Relay| relay.runs.values().any(|run| run.kinds().contains(&"stopping".to_owned()));
    relay.until("it is stopping", stopping).await;
    let begun = Instant::now();
    agent.signal(Signal::INT);
    relay.until_finished("demo#1").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(processes(&mark), [] as [u32; 0]);
    eventually("the agent exits", || agent.child.try_wait().unwrap().is_some()).await;
}
