//! A cancel that comes while its job is only just starting ends it as any other does.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

mod support;

use std::time::{Duration, Instant};

use common::event::FinalState;
use common::job::Limits;
use support::disk::slow;
use support::figures::{figure, ms};
use support::shim::children;
use support::{Agent, Place, Relay, eventually, mark, processes};

/// What an obedient command may take to end on a busy machine. It heard TERM: the grace is for those that did not.
const OBEDIENT: Duration = Duration::from_millis(Limits::GRACE_MS - 1000);

/// Cancels a job as soon as a shim is there for it that has not read its command yet; gives what the relay was told of the
/// processes: how many were killed and how many are left.
async fn cancelled_before_the_shim_reads(env: &[String]) -> (Option<(u32, u32)>, Duration) {
    let mark = mark();
    let mut relay = Relay::new().await;
    // The first that a shim does is to lead a session of its own.
    let place = Place { below: &slow("setsid:delay_enter=400000"), ..Place::default() };
    let agent = Agent::start_at(&relay.url(), &serde_json::json!({}), &place);
    relay.accept().await;
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
