//! Simulation of the delivery guarantees: the real spool and uplink of the agent, the real writer and core of the
//! relay, and between them a network in which random numbers choose every kind of fault. The start value of the random
//! numbers is the *seed*; one simulation with it is the play of that seed.
//!
//! ```text
//! world ──► agent: workers, spool, uplink ───frames──► network ──frames──► relay: core, writer ──► registry
//!   │          └ killed, power lost, wiped,              └ cut, one way lost, late, twice     └ killed, power lost,
//!   │            frozen, its clock set, a bad file                                              frozen, its clock set,
//!   │                                                                                           a bad file, old requests
//!   └ model: what must be in the log ◄────── log_checker: every line once it is durable ─────┘
//! ```
//!
//! A play uses no sockets, no threads and only simulated clocks. The same seed therefore repeats the same steps, which
//! [`determinism`] checks. `RELAY_SIM_SEED=123 cargo nextest run -p relay-tests --test sim --no-capture` plays one seed
//! and prints every step; `tests/sim.sh 20000` plays as many seeds and prints what it found.
//!
//! The simulation was itself tested. Each of the following bugs, put into the product, made some of 1,000 seeds fail;
//! their number is in brackets. The relay records repeated events again (190), accepts gaps (5), acknowledges before it
//! writes (997), leaves a log's torn tail in place (76), gives out ids beyond their durable bound (494), or does not
//! fence an older connection (1). The agent trims one event too many after an acknowledgement (115), does not continue
//! a run after what the relay holds (56), never ends its pause between two connections (519), does not verify the
//! checksum of a spooled record (294), sends a run's outcome before its output (123), resumes one event too far (784),
//! or continues the sequence numbers at the end of a file that has lost its last events (146).
//!
//! The simulation can't detect a missing sync: it treats every commit as synced. It does not cover calls of an engine
//! (they succeed at once), the supervision of processes except for its clocks, and disks that return errors (a folder
//! in a file's place causes the only error).
//!
//! * [`world`]: play of one seed. [`mix`]: frequency of each action. [`healing`]: recovery at the end. [`network`]:
//!   connections between agent and relay.
//! * [`relay`]: the relay. [`agent_node`]: the agent and its spool. [`workers`]: the agent's workers. [`limits`]: time
//!   limits of the workers. [`uplink`]: the agent's end of its connection. [`agent_exit`]: deaths and restarts of the
//!   agent.
//! * [`faults`]: other faults. [`clocks`]: time on both machines. [`bad_files`]: an unreadable record or segment.
//!   [`planted`]: bugs that must be found.
//! * [`disk`]: files after a power failure. [`model`]: expected log content. [`log_checker`]: actual log content.
//!   [`trace`]: printed steps. [`determinism`]: a repeated seed repeats its steps.
//! * [`storage`], [`segments`]: one log, one spooled segment, damaged in every possible way. [`cases`]: runs cases on
//!   all cores.

#![expect(clippy::expect_used, reason = "a panic in a helper fails the test")]

mod agent_exit;
mod agent_node;
mod bad_files;
mod cases;
mod clocks;
mod determinism;
mod disk;
mod faults;
mod healing;
mod limits;
mod log_checker;
mod mix;
mod model;
mod network;
mod planted;
mod relay;
mod segments;
mod storage;
mod trace;
mod uplink;
mod workers;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use relay_tests::harness::figures::{figure, times};
use tempfile::TempDir;

use crate::planted::PlantedBug;
use crate::trace::{Tally, Trace};

/// Plays one seed in a new folder in memory.
fn play_in_memory(number: u64, planted_bug: PlantedBug) -> Result<Tally, String> {
    play(number, create_folder().path(), planted_bug, Trace::Silent)
}

/// Creates a folder in memory, so that the disk's speed has no influence.
fn create_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

fn play(number: u64, folder: &Path, planted_bug: PlantedBug, trace: Trace) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| world::play(number, folder, planted_bug, trace)))
        .unwrap_or_else(|_| Err("it panicked".to_owned()))
}

/// Returns the number of seeds to play: `RELAY_SIM_SEEDS` if it is set, otherwise `normal` or `nightly`.
fn seed_count(normal: u64, nightly: u64) -> u64 {
    let count = std::env::var("RELAY_SIM_SEEDS").ok();
    count.map_or_else(|| times(normal, nightly), |text| text.parse().expect("RELAY_SIM_SEEDS is a number"))
}

#[test]
fn n17_whatever_fails_and_whenever_every_event_is_recorded_once_and_in_order() {
    if let Ok(text) = std::env::var("RELAY_SIM_SEED") {
        let number = text.parse().expect("RELAY_SIM_SEED is a number");
        return play(number, create_folder().path(), PlantedBug::default(), Trace::Printed)
            .map_or_else(|error| panic!("seed {number}: {error}"), |_| ());
    }
    let seeds = seed_count(1_000, 100_000);
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    for (number, played) in
        cases::run_cases(seeds, || (), |(), number| Some(play_in_memory(number, PlantedBug::default())))
    {
        match played {
            Ok(played) => tally.add(played),
            Err(error) => failures.push((number, error)),
        }
    }
    let findings =
        if failures.is_empty() { "lost 0, duplicated 0, gaps 0, stuck 0, others hurt 0, " } else { "" };
    figure(&format!(
        "random faults in the simulation (fault N17): {tally}, {findings}failures {}",
        failures.len()
    ));
    let errors: Vec<String> = failures
        .iter()
        .take(times(20, 200))
        .map(|(number, error)| format!("RELAY_SIM_SEED={number}: {error}"))
        .collect();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), errors.join("\n"));
}
