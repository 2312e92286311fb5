//! Crash safety: no event is lost, duplicated or skipped, at whatever point the relay, the agent or both are killed.
//!
//! * [`talker`]: a worker that reports numbered messages, and the check that the registry holds all of them.
//! * [`programs`]: relay and agent as children of the test; `strace` kills them at the chosen system call.
//! * [`relay`], [`agent`], [`both`]: tests that kill these programs. [`launch`]: tests that kill `relay launch` at each
//!   of its system calls.

mod agent;
mod both;
mod launch;
mod programs;
mod relay;
mod talker;

use std::fs;
use std::time::{Duration, Instant};

use relay_tests::harness::Site;

/// System calls that change the state of the disk.
const CALLS: [&str; 9] =
    ["write", "fdatasync", "fsync", "renameat", "renameat2", "openat", "ftruncate", "unlinkat", "mkdirat"];

/// Returns a time below `most` that differs in each round. The golden ratio spreads the times of all rounds evenly.
fn spread_instant(round: u32, most: Duration) -> Duration {
    most.mul_f64((f64::from(round) * 0.618_033_988_75).fract())
}

/// Waits for `time`, in which a program gets into the middle of its work.
fn let_time_pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        std::thread::park_timeout(rest);
    }
}

/// Returns the total length of the event logs of these jobs, in bytes.
fn log_length(site: &Site, jobs: &[String]) -> u64 {
    let path = |job: &String| site.registry().join(format!("{}.events.jsonl", job.replace('#', ".")));
    jobs.iter().map(|job| fs::metadata(path(job)).map_or(0, |log| log.len())).sum()
}
