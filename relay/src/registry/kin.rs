//! Jobs that go on from one another: which came before a job, and which after it.
//!
//! ```text
//! abe#1 ◄─resume─ abe#2 ◄─retry─ abe#4        a record names the job it follows,
//!        ◄─resume─ abe#3                      those that follow it are found by number
//! ```
//!
//! A follow-up has the name of the job it follows and so a higher number: nothing else has to be looked through.

use common::ids::JobId;
use common::record::JobRecord;

use super::{Registry, create, read};

/// Most jobs before one that are read: longer histories are told from there on.
const MOST_BEFORE: usize = 100;
/// Most records that are read for what came after a job. Each takes some 50 µs.
const MOST_AFTER: u32 = 200;

/// The jobs that a job goes on from, oldest first. One that was pruned ends the line.
pub fn before(registry: &Registry, record: &JobRecord) -> Vec<JobRecord> {
    let mut line: Vec<JobRecord> = Vec::new();
    while line.len() < MOST_BEFORE {
        let newest = line.last().unwrap_or(record);
        // Numbers fall from job to job, so that a forged circle ends too.
        let Some(follows) = newest.origin.follows.as_ref().filter(|f| f.job < newest.job) else { break };
        let Ok(stored) = read::load(registry, &follows.job) else { break };
        line.push(stored.record);
    }
    line.reverse();
    line
}

/// The jobs that go on from this one, and those that go on from them, by number.
pub fn after(registry: &Registry, job: &JobId) -> Vec<JobRecord> {
    let last = create::last_number(registry, job.name()).min(job.number().saturating_add(MOST_AFTER));
    let mut line: Vec<JobRecord> = Vec::new();
    for number in job.number() + 1..=last {
        let Ok(stored) = read::load(registry, &JobId::new(job.name().clone(), number)) else { continue };
        let Some(follows) = &stored.record.origin.follows else { continue };
        if follows.job == *job || line.iter().any(|earlier| earlier.job == follows.job) {
            line.push(stored.record);
        }
    }
    line
}

/// Everything that is linked to a job, itself included, by number.
pub fn whole(registry: &Registry, record: &JobRecord) -> Vec<JobRecord> {
    let first = before(registry, record).into_iter().next().unwrap_or_else(|| record.clone());
    let mut all = after(registry, &first.job);
    all.insert(0, first);
    if !all.iter().any(|other| other.job == record.job) {
        all.push(record.clone());
    }
    all
}

#[cfg(test)]
#[path = "kin_tests.rs"]
mod tests;
