//! Tests of chains of follow-up jobs.

use common::origin::{FollowUp, Follows, Origin};
use common::record::State;

use super::*;
use crate::render::samples;

struct TestRegistry {
    dir: tempfile::TempDir,
}

impl TestRegistry {
    /// Creates jobs by number, each with the number of its predecessor.
    fn new(jobs: &[(u32, Option<u32>)]) -> Self {
        let chain = Self { dir: tempfile::tempdir().unwrap() };
        let registry = chain.registry();
        registry.ensure().unwrap();
        for (number, follows) in jobs {
            let follows = follows.map(|earlier| Follows { job: job(earlier), how: FollowUp::Resume });
            let record = JobRecord {
                origin: Origin { follows, ..Origin::default() },
                ..samples::minimal_record(&job(*number).to_string(), State::Completed)
            };
            std::fs::write(registry.record(&record.job), record.to_bytes().unwrap()).unwrap();
        }
        let last = jobs.iter().map(|(number, _)| *number).max().unwrap_or(0);
        std::fs::write(registry.names().file("abe"), last.to_string()).unwrap();
        chain
    }

    fn registry(&self) -> Registry {
        Registry::for_project(self.dir.path())
    }

    fn record(&self, number: u32) -> JobRecord {
        read::load_record(&self.registry(), &job(number)).unwrap().record
    }
}

fn job(number: u32) -> JobId {
    JobId::new("abe".parse().unwrap(), number)
}

fn numbers(records: &[JobRecord]) -> Vec<u32> {
    records.iter().map(|record| record.job.number()).collect()
}

#[test]
fn a_lineage_contains_every_branch_and_no_unrelated_job() {
    let chain =
        TestRegistry::new(&[(1, None), (2, Some(1)), (3, None), (4, Some(2)), (5, Some(1)), (6, Some(3))]);
    let registry = chain.registry();
    assert_eq!(numbers(&predecessors(&registry, &chain.record(4))), [1, 2]);
    assert_eq!(numbers(&successors(&registry, &job(1))), [2, 4, 5]);
    assert_eq!(numbers(&successors(&registry, &job(6))), [0; 0]);
    assert_eq!(numbers(&lineage(&registry, &chain.record(5))), [1, 2, 4, 5]);
}

#[test]
fn a_pruned_job_and_a_cycle_end_a_chain() {
    let chain = TestRegistry::new(&[(2, Some(1)), (3, Some(2)), (4, Some(4)), (5, Some(6)), (6, Some(5))]);
    let registry = chain.registry();
    assert_eq!(numbers(&predecessors(&registry, &chain.record(3))), [2]);
    assert_eq!(numbers(&lineage(&registry, &chain.record(3))), [2, 3]);
    assert_eq!(numbers(&lineage(&registry, &chain.record(4))), [4]);
    assert_eq!(numbers(&lineage(&registry, &chain.record(5))), [5, 6]);
}

#[test]
fn archived_jobs_belong_to_a_lineage() {
    let chain = TestRegistry::new(&[(1, None), (2, Some(1))]);
    let registry = chain.registry();
    std::fs::rename(registry.record(&job(1)), registry.archive_registry().record(&job(1))).unwrap();
    assert_eq!(numbers(&lineage(&registry, &chain.record(2))), [1, 2]);
}
