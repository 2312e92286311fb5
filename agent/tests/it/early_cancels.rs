//! A cancel that arrives while its job is only just starting ends the job as any other cancel does.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::time::{Duration, Instant};

use crate::support::disk::slow;
use crate::support::figures::{figure, ms, p99, times};
use crate::support::shim::children;
use crate::support::{Place, connected, connected_at, eventually, mark, processes};
use common::event::FinalState;
use common::job::Limits;

/// Longest end of an obedient command on a busy machine. It has received TERM: only commands that ignore TERM use the
/// full grace period.
const OBEDIENT: Duration = Duration::from_millis(Limits::GRACE_MS - 1000);

/// Cancels a job once it has a shim that has not read its command yet; returns the numbers of killed processes and
/// survivors in the `Cleanup` event, and the duration of the end.
async fn cancelled_before_the_shim_reads(env: &[String]) -> (Option<(u32, u32)>, Duration) {
    let mark = mark();
    // The first thing that a shim does is to lead a session of its own.
    let place = Place { below: &slow("setsid:delay_enter=400000"), ..Place::default() };
    let (mut relay, agent) = connected_at(&serde_json::json!({}), &place).await;
    let mut spec = agent.shell("demo#1", &format!("exec sleep {mark}"));
    spec.env.extend(env.iter().enumerate().map(|(n, value)| (format!("LARGE{n}"), value.clone())));
    relay.start(&spec).await;
    eventually("a shim starts", || !children(agent.child.id()).is_empty()).await;
    let begun = Instant::now();
    relay.cancel("demo#1", Limits::GRACE_MS).await;
    let run = relay.until_finished("demo#1").await;
    let took = begun.elapsed();
    assert_eq!(run.finished().unwrap().0, FinalState::Cancelled);
    assert_eq!(processes(&mark), [] as [u32; 0]);
    let kinds = run.kinds();
    let place_of = |kind: &str| kinds.iter().position(|other| other == kind);
    assert!(place_of("stopping") < place_of("started"), "the cancel was to come first: {kinds:?}");
    (run.cleanup(), took)
}

#[tokio::test]
async fn a_cancel_that_the_shim_reads_together_with_its_command_ends_it_at_once() {
    let (cleanup, took) = cancelled_before_the_shim_reads(&[]).await;
    assert_eq!(cleanup, Some((1, 0)));
    assert!(took < OBEDIENT, "{took:?}");
    figure(&format!("cancel before the shim has read its command: end after {}", ms(took)));
}

#[tokio::test]
async fn a_cancel_behind_a_command_that_fills_the_socket_is_not_lost() {
    // Together as large as the buffer of a socket (net.core.wmem_default), and each as large as a variable may be.
    let large = ["x".repeat(105_000), "x".repeat(105_000)];
    let (cleanup, took) = cancelled_before_the_shim_reads(&large).await;
    assert_eq!(cleanup, Some((1, 0)));
    assert!(took < OBEDIENT, "{took:?}");
}

/// Cancels jobs of this line at instants spread over the first 50 ms after each start; returns the number of jobs that
/// had begun to run, and the duration of each end.
async fn cancelled_early(line: &str, mark: &str) -> (u32, Vec<Duration>) {
    let rounds = times(60, 2000);
    let (mut relay, agent) = connected().await;
    let (mut ran, mut took) = (0, Vec::new());
    for round in 0..rounds {
        let job = format!("demo#{}", round + 1);
        relay.start(&agent.shell(&job, line)).await;
        // A step that is coprime to the number of rounds visits every instant once, in no order.
        tokio::time::sleep(Duration::from_millis(50) * (round * 7919 % rounds) / rounds).await;
        let begun = Instant::now();
        relay.cancel(&job, Limits::GRACE_MS).await;
        let run = relay.until_finished(&job).await;
        let end = begun.elapsed();
        assert!(end < OBEDIENT, "{job}, {line}, after {end:?}: {:?}", run.kinds());
        took.push(end);
        assert_eq!(run.finished().unwrap().0, FinalState::Cancelled);
        let (killed, survivors) = run.cleanup().unwrap();
        // No running process ends by itself, and a command that never ran needs no killing.
        let started = run.started().is_some();
        assert_eq!((killed > 0, survivors), (started, 0), "killed {killed}: {:?}", run.kinds());
        ran += u32::from(started);
        assert_eq!(processes(mark), [] as [u32; 0]);
    }
    (ran, took)
}

#[tokio::test]
async fn a_cancel_at_any_instant_of_a_start_ends_the_job_well_within_its_grace() {
    let (mut ran, mut took) = (0, Vec::new());
    // One process; a shell that has just started another; one with a shell of its own beside it.
    for line in ["exec sleep", "true; sleep", "sh -c 'sleep 1000; true' & sleep"] {
        let mark = mark();
        let (more, times) = cancelled_early(&format!("{line} {mark}; true"), &mark).await;
        ran += more;
        took.extend(times);
    }
    let count = took.len();
    let most = ms(took.iter().max().copied().unwrap());
    let p99 = ms(p99(took));
    figure(&format!(
        "cancel at {count} instants of a start, {ran} ran: end p99 {p99}, at most {most}, survivors 0"
    ));
}

/// Starts a program while all signals are blocked, as shells and libraries do for an instant, and others for longer.
const HOLDS_BACK: &str = r#"
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

/// Cancels a job that runs [`HOLDS_BACK`] for `spin` seconds, as soon as the job is ready; returns the duration of the
/// end.
async fn cancelled_while_term_is_held_back(spin: &str, grace_ms: u64) -> Duration {
    let mark = mark();
    let (mut relay, agent) = connected().await;
    let mut spec = agent.shell("demo#1", &format!("exec python3 -c \"$SCRIPT\" {mark} {spin}"));
    spec.env.insert("SCRIPT".to_owned(), HOLDS_BACK.to_owned());
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
async fn what_a_program_starts_while_it_holds_signals_back_hears_term_too() {
    let took = cancelled_while_term_is_held_back("0.3", Limits::GRACE_MS).await;
    assert!(took < OBEDIENT, "{took:?}");
}

#[tokio::test]
async fn a_program_that_holds_signals_back_for_good_is_killed_after_the_grace() {
    let took = cancelled_while_term_is_held_back("0", 1500).await;
    assert!(took >= Duration::from_millis(1490) && took < Duration::from_millis(4500), "{took:?}");
}
