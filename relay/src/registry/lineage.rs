//! Follow-up jobs: the predecessors and successors of a job.
//!
//! ```text
//! abe#1 ◄─resume─ abe#2 ◄─retry─ abe#4        a record names its predecessor,
//!        ◄─resume─ abe#3                      successors are found by number
//! ```
//!
//! A follow-up job has the name of its predecessor and a higher number, so only these records are searched.

use common::ids::JobId;
use common::record::JobRecord;

use super::{Registry, create, read};

/// Maximum number of predecessors that are read. The oldest predecessors in a longer chain are left out.
const MAX_PREDECESSORS: usize = 100;
/// Maximum number of records that are searched for successors. Reading a record takes some 50 µs.
const MAX_SUCCESSORS: u32 = 200;

/// Returns the predecessors of a job, oldest first. A pruned job ends the chain.
pub fn predecessors(registry: &Registry, record: &JobRecord) -> Vec<JobRecord> {
    let mut chain: Vec<JobRecord> = Vec::new();
    while chain.len() < MAX_PREDECESSORS {
        let newest = chain.last().unwrap_or(record);
        // Numbers decrease from job to job, so that a forged cycle ends too.
        let Some(follows) = newest.origin.follows.as_ref().filter(|f| f.job < newest.job) else { break };
        let Ok(stored) = read::load_record(registry, &follows.job) else { break };
        chain.push(stored.record);
    }
    chain.reverse();
    chain
}

/// Returns the direct and indirect successors of a job, sorted by number.
pub fn successors(registry: &Registry, job: &JobId) -> Vec<JobRecord> {
    let last = create::last_number(registry, job.name()).min(job.number().saturating_add(MAX_SUCCESSORS));
    let mut chain: Vec<JobRecord> = Vec::new();
    for number in job.number() + 1..=last {
        let Ok(stored) = read::load_record(registry, &JobId::new(job.name().clone(), number)) else {
            continue;
        };
        let Some(follows) = &stored.record.origin.follows else { continue };
        if follows.job == *job || chain.iter().any(|earlier| earlier.job == follows.job) {
            chain.push(stored.record);
        }
    }
    chain
}

/// Returns a job and all jobs that are linked to it, sorted by number.
pub fn lineage(registry: &Registry, record: &JobRecord) -> Vec<JobRecord> {
    let oldest = predecessors(registry, record).into_iter().next().unwrap_or_else(|| record.clone());
    let mut jobs = successors(registry, &oldest.job);
    jobs.insert(0, oldest);
    if !jobs.iter().any(|other| other.job == record.job) {
        jobs.push(record.clone());
    }
    jobs
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
mod tests;
