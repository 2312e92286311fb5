//! Tests of cancels that arrive while a job is starting: they end the job as any other cancel does.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::time::{Duration, Instant};

use crate::support::disk::strace_with_delays;
use crate::support::figures::{figure, ms, p99, times};
use crate::support::shim::children;
use crate::support::{
    LONG_GRACE_MS, MAX_PROMPT_END, StartOptions, eventually, mark, processes, relay_and_agent,
    relay_and_agent_with,
};
use common::event::FinalState;

/// Cancels a job when its shim runs but has not read its command yet. Returns the numbers of killed processes and
/// survivors in the `Cleanup` event, and the time from the cancel until the job has ended.
async fn cancel_before_the_shim_reads(env: &[String]) -> (Option<(u32, u32)>, Duration) {
    let mark = mark();
    // The first system call of a shim is `setsid`.
    let wrapper = strace_with_delays("setsid:delay_enter=1000000");
    let options = StartOptions { wrapper: &wrapper, ..StartOptions::default() };
    let (mut relay, agent) = relay_and_agent_with(&serde_json::json!({}), &options).await;
    let mut spec = agent.shell_spec("demo#1", &format!("exec sleep {mark}"));
    spec.env.extend(env.iter().enumerate().map(|(n, value)| (format!("LARGE{n}"), value.clone())));
    relay.start(&spec).await;
    eventually("a shim starts", || !children(agent.child.id()).is_empty()).await;
    let begun = Instant::now();
    relay.cancel("demo#1", LONG_GRACE_MS).await;
    let run = relay.until_finished("demo#1").await;
    let took = begun.elapsed();
    assert_eq!(run.outcome().unwrap().0, FinalState::Cancelled);
    assert_eq!(processes(&mark), [] as [u32; 0]);
    let types = run.event_types();
    let position_of = |wanted: &str| types.iter().position(|name| name == wanted);
    assert!(position_of("stopping") < position_of("started"), "the cancel must come first: {types:?}");
    (run.cleanup(), took)
}

#[tokio::test]
async fn a_cancel_that_the_shim_reads_together_with_its_command_ends_the_job_at_once() {
    let (cleanup, took) = cancel_before_the_shim_reads(&[]).await;
    assert_eq!(cleanup, Some((1, 0)));
    assert!(took < MAX_PROMPT_END, "{took:?}");
    figure(&format!("cancel before the shim has read its command: end after {}", ms(took)));
}

#[tokio::test]
async fn a_cancel_after_a_command_that_fills_the_socket_is_not_lost() {
    // Together they fill the buffer of a socket (net.core.wmem_default). Longer variables are not possible.
    let large = ["x".repeat(105_000), "x".repeat(105_000)];
    let (cleanup, took) = cancel_before_the_shim_reads(&large).await;
    assert_eq!(cleanup, Some((1, 0)));
    assert!(took < MAX_PROMPT_END, "{took:?}");
}

/// Runs a command line as many jobs and cancels each at another instant within 50 ms of its start. Returns the number
/// of jobs that had begun to run, and the duration of each end.
async fn cancel_early(line: &str, mark: &str) -> (u32, Vec<Duration>) {
    let rounds = times(60, 2000);
    let (mut relay, agent) = relay_and_agent().await;
    let (mut ran, mut took) = (0, Vec::new());
    for round in 0..rounds {
        let job = format!("demo#{}", round + 1);
        relay.start(&agent.shell_spec(&job, line)).await;
        // 7919 is coprime to the number of rounds, so each of the instants occurs once, in an irregular order.
        tokio::time::sleep(Duration::from_millis(50) * (round * 7919 % rounds) / rounds).await;
        let begun = Instant::now();
        relay.cancel(&job, LONG_GRACE_MS).await;
        let run = relay.until_finished(&job).await;
        let end = begun.elapsed();
        assert!(end < MAX_PROMPT_END, "{job}, {line}, after {end:?}: {:?}", run.event_types());
        took.push(end);
        assert_eq!(run.outcome().unwrap().0, FinalState::Cancelled);
        let (killed, survivors) = run.cleanup().unwrap();
        // A process that runs never ends by itself, and a command that never ran leaves nothing to kill.
        let started = run.pid().is_some();
        assert_eq!((killed > 0, survivors), (started, 0), "killed {killed}: {:?}", run.event_types());
        ran += u32::from(started);
        assert_eq!(processes(mark), [] as [u32; 0]);
    }
    (ran, took)
}

#[tokio::test]
async fn a_cancel_at_any_instant_of_a_start_ends_the_job_within_the_grace_period() {
    let (mut ran, mut took) = (0, Vec::new());
    // One process; a shell with a child; a shell with two children, one of them another shell.
    for line in ["exec sleep", "true; sleep", "sh -c 'sleep 1000; true' & sleep"] {
        let mark = mark();
        let (ran_count, durations) = cancel_early(&format!("{line} {mark}; true"), &mark).await;
        ran += ran_count;
        took.extend(durations);
    }
    let count = took.len();
    let longest = ms(took.iter().max().copied().unwrap());
    let p99 = ms(p99(took));
    figure(&format!(
        "cancel at {count} instants of a start, {ran} ran: end p99 {p99}, at most {longest}, survivors 0"
    ));
}

/// Python script that blocks all signals for a number of seconds, then starts `sleep`. Shells and libraries also block
/// signals while they start a program. With 0 seconds the script never unblocks them.
const BLOCK_SIGNALS: &str = r#"
import os, signal, sys, time
mark, spin = sys.argv[1], float(sys.argv[2])
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("ready", flush=True)
begun = time.monotonic()
while time.monotonic() < begun + spin:
    pass
os.posix_spawn("/bin/sleep", ["sleep", mark], os.environ, setsigmask=[])
if spin:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
signal.pause()
"#;

/// Cancels a job that runs [`BLOCK_SIGNALS`] with `seconds`, as soon as the job is ready; returns the duration of the
/// end.
async fn cancel_while_term_is_blocked(seconds: &str, grace_ms: u64) -> Duration {
    let mark = mark();
    let (mut relay, agent) = relay_and_agent().await;
    let mut spec = agent.shell_spec("demo#1", &format!("exec python3 -c \"$SCRIPT\" {mark} {seconds}"));
    spec.env.insert("SCRIPT".to_owned(), BLOCK_SIGNALS.to_owned());
    spec.limits.grace_ms = LONG_GRACE_MS;
    relay.start(&spec).await;
    relay.until_output("demo#1", "ready").await;
    let begun = Instant::now();
    relay.cancel("demo#1", grace_ms).await;
    let run = relay.until_finished("demo#1").await;
    let took = begun.elapsed();
    assert_eq!(run.cleanup().unwrap().1, 0);
    assert_eq!(processes(&mark), [] as [u32; 0]);
    took
}

#[tokio::test]
async fn a_process_started_by_a_program_that_blocks_signals_gets_term_too() {
    let took = cancel_while_term_is_blocked("0.3", LONG_GRACE_MS).await;
    assert!(took < MAX_PROMPT_END, "{took:?}");
}

#[tokio::test]
async fn a_program_that_never_unblocks_signals_is_killed_after_the_grace_period() {
    let took = cancel_while_term_is_blocked("0", 1500).await;
    assert!(took >= Duration::from_millis(1490) && took < MAX_PROMPT_END, "{took:?}");
}
