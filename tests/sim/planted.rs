//! Bugs that the simulation must find: each existed in the product at some time, or nearly did. They are planted into
//! the code that drives the real parts, so that no program of the product can contain one.

use std::sync::atomic::{AtomicBool, Ordering};

use relay::internals::PlantedBug as OfRelay;
use relay_tests::harness::figures::figure;

use crate::{cases, seed};

/// Number of seeds within which each bug has to be found.
const SEEDS: u64 = 1_000;

/// A bug of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfAgent {
    /// Events are stamped with the agent's own wall clock.
    OwnWallClock,
    /// Time in which the agent did not run counts for limits.
    FrozenTimeCounts,
}

/// At most one bug.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Planted {
    pub(crate) agent: Option<OfAgent>,
    pub(crate) relay: Option<OfRelay>,
}

fn of_relay(bug: OfRelay) -> Planted {
    Planted { relay: Some(bug), ..Planted::default() }
}

fn of_agent(bug: OfAgent) -> Planted {
    Planted { agent: Some(bug), ..Planted::default() }
}

/// Returns the first seed that fails with a bug, and its error.
fn first_failure(planted: Planted) -> Option<(u64, String)> {
    let is_found = AtomicBool::new(false);
    let found = cases::each(
        SEEDS,
        || (),
        |(), number| {
            let failed =
                (!is_found.load(Ordering::Relaxed)).then(|| seed(number, planted)).and_then(Result::err)?;
            is_found.store(true, Ordering::Relaxed);
            Some(failed)
        },
    );
    found.into_iter().next()
}

/// Checks that the simulation finds a bug, and that its error contains these words.
fn check(name: &str, planted: Planted, words: &str) {
    let Some((number, error)) = first_failure(planted) else {
        panic!("{name}: not found within {SEEDS} seeds");
    };
    figure(&format!("N17: planted: {name}: found at seed {number} of {SEEDS}"));
    assert!(error.contains(words), "{name}: found as something else: {error}");
}

#[test]
fn an_agent_that_is_asked_again_only_after_an_end_is_found() {
    check("a full agent is never asked again", of_relay(OfRelay::FullUntilJobEnds), "have no end");
}

#[test]
fn a_left_request_that_ends_another_relay_is_found() {
    check("a left request is obeyed", of_relay(OfRelay::ObeysForeignRequest), "meant for another");
}

#[test]
fn a_job_that_takes_the_others_out_of_a_hello_is_found() {
    check("one bad job drops the hello", of_relay(OfRelay::DropsWholeHello), "hurts others");
}

#[test]
fn two_jobs_in_one_folder_are_found() {
    check("the folder guard is off", of_relay(OfRelay::IgnoresFolders), "works in the folder of");
}

#[test]
fn a_job_that_starts_after_a_failed_one_is_found() {
    check(
        "failures count as completed",
        of_relay(OfRelay::FailureCountsAsCompletion),
        "which has not completed",
    );
}

#[test]
fn an_age_from_the_other_sides_wall_clock_is_found() {
    check("ages by the agent's wall clock", of_agent(OfAgent::OwnWallClock), "by the clock of its log");
}

#[test]
fn frozen_time_that_counts_for_a_limit_is_found() {
    check("frozen time counts for limits", of_agent(OfAgent::FrozenTimeCounts), "before its limit");
}
