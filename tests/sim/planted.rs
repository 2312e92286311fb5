//! Planted bugs, which the simulation must find. Each existed in the product at some time, or nearly did. The bugs are
//! in the code that drives the real parts in the simulation, so that no program of the product can contain one.

use std::sync::atomic::{AtomicBool, Ordering};

use relay::internals::PlantedBug as RelayBug;
use relay_tests::harness::figures::figure;

use crate::{cases, play_in_memory};

/// Number of seeds within which each bug has to be found.
const SEEDS: u64 = 1_000;

/// A bug of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentBug {
    /// Events get the time of the agent's own wall clock instead of the relay's time.
    OwnWallClock,
    /// Time for which the agent was frozen counts for limits.
    FrozenTimeCounts,
}

/// The bug that a simulation has, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlantedBug {
    pub(crate) agent: Option<AgentBug>,
    pub(crate) relay: Option<RelayBug>,
}

fn relay_bug(bug: RelayBug) -> PlantedBug {
    PlantedBug { relay: Some(bug), ..PlantedBug::default() }
}

fn agent_bug(bug: AgentBug) -> PlantedBug {
    PlantedBug { agent: Some(bug), ..PlantedBug::default() }
}

/// Returns a seed that fails with the bug, and its error; none if all seeds pass.
fn first_failure(bug: PlantedBug) -> Option<(u64, String)> {
    let is_found = AtomicBool::new(false);
    let found = cases::run_cases(
        SEEDS,
        || (),
        |(), number| {
            let failed = (!is_found.load(Ordering::Relaxed))
                .then(|| play_in_memory(number, bug))
                .and_then(Result::err)?;
            is_found.store(true, Ordering::Relaxed);
            Some(failed)
        },
    );
    found.into_iter().next()
}

/// Checks that the simulation finds the bug, and that the failing seed's error contains `words`.
fn check(name: &str, bug: PlantedBug, words: &str) {
    let Some((number, error)) = first_failure(bug) else {
        panic!("{name}: not found within {SEEDS} seeds");
    };
    figure(&format!("planted bug '{name}' (fault N17): found at seed {number} of {SEEDS}"));
    assert!(error.contains(words), "{name}: found as something else: {error}");
}

#[test]
fn a_full_agent_that_gets_jobs_again_only_after_one_has_ended_is_found() {
    check("a full agent is never asked again", relay_bug(RelayBug::FullUntilJobEnds), "have no end");
}

#[test]
fn a_relay_that_obeys_a_request_for_an_earlier_relay_is_found() {
    check("a left request is obeyed", relay_bug(RelayBug::ObeysForeignRequest), "meant for another");
}

#[test]
fn a_hello_that_drops_all_jobs_because_of_a_bad_one_is_found() {
    check("one bad job drops the hello", relay_bug(RelayBug::DropsWholeHello), "hurts others");
}

#[test]
fn two_jobs_in_one_folder_are_found() {
    check("the folder guard is off", relay_bug(RelayBug::IgnoresFolders), "works in the folder of");
}

#[test]
fn a_job_that_starts_after_a_failed_one_is_found() {
    check(
        "failures count as completed",
        relay_bug(RelayBug::FailureCountsAsCompletion),
        "which has not completed",
    );
}

#[test]
fn an_event_with_the_time_of_the_agents_wall_clock_is_found() {
    check("ages by the agent's wall clock", agent_bug(AgentBug::OwnWallClock), "by the clock of its log");
}

#[test]
fn frozen_time_that_counts_for_a_limit_is_found() {
    check("frozen time counts for limits", agent_bug(AgentBug::FrozenTimeCounts), "before its limit");
}
