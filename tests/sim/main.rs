//! Simulation of the delivery guarantees: the real spool and uplink of the agent, the real writer and core of the
//! relay, and between them a network in which a seed of random numbers injects every kind of fault.
//!
//!
//! ```text
//! world ──► agent: workers, spool, uplink ───frames──► network ──frames──► relay: core, writer ──► registry
//!   │          └ killed, power lost, wiped,              └ cut, one way lost, late, twice     └ killed, power lost,
//!   │            frozen, its clock set, a bad file                                              frozen, its clock set,
//!   │                                                                                           a bad file, left requests
//!   └ model: what must be in the log ◄────────── book: every line as soon as it is durable ────────┘
//! ```
//!
//! A seed uses no sockets, no threads and no clock but its own: the same seed repeats the same steps, which [`same`]
//! checks. `RELAY_SIM_SEED=123 cargo nextest run -p relay-tests --test sim --no-capture` plays one seed and prints
//! every step; `tests/sim.sh 20000` plays as many seeds and prints what it found.
//!
//! The simulation was itself tested: each of these changes to the product made some of 1,000 seeds fail. Repeats
//! recorded again (190 seeds); gaps accepted (5); acknowledging before writing (997); a log's torn tail left in place
//! (76); ids without their durable bound (494); an older connection not fenced (1); an acknowledgement that trims one
//! event too many (115); a run that does not continue after what the relay holds (56); a pause between two connections
//! that never ends (519); a spooled record whose checksum is not verified (294); a run's outcome sent before its output
//! (123); a connection that resumes one event too far (784); sequences that continue at the end of a file that has lost
//! its last events (146). The simulation can't detect a missing sync: it takes a commit for one. Also out of its reach:
//! calls of an engine (in the simulation they succeed at once), the supervision of processes
//! except for its clocks, and disks that return errors, for which a folder in a file's place stands in.
//!
//! * [`world`]: one seed. * [`mix`]: frequency of each action. * [`healing`]: recovery at the end. * [`network`]:
//!   connections between the nodes.
//! * [`relay`]: the relay's node. [`agent_node`]: the agent's node. [`agent`]: its workers. [`limits`]: their time.
//!   [`uplink`]: its connection. [`falls`]: its deaths.
//! * [`faults`]: other faults. [`clocks`]: time on both machines. [`spoiled`]: one job's bad file. [`planted`]: bugs
//!   that must be found.
//! * [`disk`]: files after a crash. * [`model`]: expected log content. * [`book`]: actual log content. * [`trace`]:
//!   record of the steps. [`same`]: a repeated seed repeats its steps.
//! * [`storage`], [`segments`]: one log, one spooled segment, damaged in every possible way. [`cases`]: runs cases on
//!   all cores.

#![expect(clippy::expect_used, reason = "a panic in a helper fails the test")]

mod agent;
mod agent_node;
mod book;
mod cases;
mod clocks;
mod disk;
mod falls;
mod faults;
mod healing;
mod limits;
mod mix;
mod model;
mod network;
mod planted;
mod relay;
mod same;
mod segments;
mod spoiled;
mod storage;
mod trace;
mod uplink;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use relay_tests::harness::figures::{figure, times};
use tempfile::TempDir;

use crate::planted::Planted;
use crate::trace::{Tally, Trace};

/// Plays one seed in a folder of its own.
fn seed(number: u64, planted: Planted) -> Result<Tally, String> {
    play(number, folder().path(), planted, Trace::Silent)
}

/// Creates a folder in memory, so that the disk's speed has no influence.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

fn play(number: u64, folder: &Path, planted: Planted, trace: Trace) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| world::play(number, folder, planted, trace)))
        .unwrap_or_else(|_| Err("it panicked".to_owned()))
}

/// Number of seeds to play.
fn seeds(normal: u64, nightly: u64) -> u64 {
    let wanted = std::env::var("RELAY_SIM_SEEDS").ok();
    wanted.map_or_else(|| times(normal, nightly), |text| text.parse().expect("RELAY_SIM_SEEDS is a number"))
}

#[test]
fn n17_whatever_fails_and_whenever_every_event_is_recorded_once_and_in_order() {
    if let Ok(text) = std::env::var("RELAY_SIM_SEED") {
        let number = text.parse().expect("RELAY_SIM_SEED is a number");
        return play(number, folder().path(), Planted::default(), Trace::Printed)
            .map_or_else(|error| panic!("seed {number}: {error}"), |_| ());
    }
    let seeds = seeds(1_000, 100_000);
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    for (number, played) in cases::each(seeds, || (), |(), number| Some(seed(number, Planted::default()))) {
        match played {
            Ok(played) => tally.add(played),
            Err(error) => failures.push((number, error)),
        }
    }
    let verdict =
        if failures.is_empty() { "lost 0, duplicated 0, gaps 0, stuck 0, others hurt 0, " } else { "" };
    figure(&format!("N17: {tally}, {verdict}failures {}", failures.len()));
    let told: Vec<String> = failures
        .iter()
        .take(times(20, 200))
        .map(|(number, error)| format!("RELAY_SIM_SEED={number}: {error}"))
        .collect();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), told.join("\n"));
}
