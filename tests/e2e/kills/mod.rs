//! Crash safety: nothing is lost, doubled or skipped, wherever the relay, the agent or both are killed.
//!
//! * [`talker`]: a worker that reports numbered messages, and the check of the registry for them.
//! * [`programs`]: relay and agent as children of the test; `strace` kills them at the chosen system call.
//! * [`relay`], [`agent`], [`both`]: the programs that are killed. [`launch`]: the command line, killed at each of its
//!   calls.

mod agent;
mod both;
mod launch;
mod programs;
mod relay;
mod talker;

use std::fs;
use std::time::{Duration, Instant};

use relay_tests::harness::Site;

/// System calls that each change the state of the disk.
const CALLS: [&str; 9] =
    ["write", "fdatasync", "fsync", "renameat", "renameat2", "openat", "ftruncate", "unlinkat", "mkdirat"];

/// An instant within `most` that differs in each round: the golden ratio spreads any number of them evenly.
fn instant(round: u32, most: Duration) -> Duration {
    most.mul_f64((f64::from(round) * 0.618_033_988_75).fract())
}

/// Lets time pass in which a program gets into the middle of its work; the exact place is up to chance.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        std::thread::park_timeout(rest);
    }
}

/// Total length of the event logs of these jobs.
fn logged(site: &Site, jobs: &[String]) -> u64 {
    let path = |job: &String| site.registry().join(format!("{}.events.jsonl", job.replace('#', ".")));
    jobs.iter().map(|job| fs::metadata(path(job)).map_or(0, |log| log.len())).sum()
}
