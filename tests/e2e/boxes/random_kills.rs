//! Relays that are killed at random instants while the containers of jobs start and end.
//!
//! The kills of a run are determined by a seed, which the test prints. `RELAY_TEST_SEED=N` repeats a run.

use std::env;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::record::{JobRecord, State};
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::repository::Noise;
use relay_tests::harness::{Site, processes, until, until_by};

use super::site;

/// Maximum time from the start of a relay to its end, in milliseconds. A box needs some of it to start, and some to end.
const MAX_LIFETIME_MS: u64 = 1500;
/// Maximum time for the remaining jobs to end after the last kill.
const PATIENCE: Duration = Duration::from_secs(240);

/// Outcomes of the jobs of a run.
#[derive(Debug, Default)]
struct Tally {
    completed: usize,
    /// Jobs that did not complete, and whose records say why.
    failed: usize,
    /// Jobs whose command ran more than once, or did not run although they completed.
    miscounted: Vec<String>,
    /// Jobs that did not complete, and whose records do not say why.
    unexplained: Vec<String>,
}

impl Tally {
    fn add(&mut self, record: &JobRecord, runs: usize) {
        let is_completed = record.state == State::Completed;
        let is_explained = record.error.as_ref().is_some_and(|error| !error.message.is_empty());
        match (is_completed, is_explained) {
            (true, _) => self.completed += 1,
            (false, true) => self.failed += 1,
            (false, false) => self.unexplained.push(format!("{record:?}")),
        }
        if runs > 1 || (is_completed && runs != 1) {
            self.miscounted.push(format!("{} ran {runs} times: {record:?}", record.job));
        }
    }
}

/// Returns the seed of this run: the given one, or one that no earlier run had.
fn seed() -> u64 {
    let given = env::var("RELAY_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs() ^ u64::from(now.subsec_nanos())
    })
}

/// Kills the relay at a random instant of its life, and starts the next one.
fn replace_relay(site: &Site, noise: &mut Noise) {
    let lifetime = Duration::from_millis(noise.below(MAX_LIFETIME_MS));
    let began = Instant::now();
    until("the relay has lived", || (began.elapsed() >= lifetime).then_some(()));
    processes::kill(site.daemon_pid());
    site.relay(&["up"]);
}

/// Returns the number of times that the command of a job ran: each run appends a line.
fn count_runs(site: &Site, job: &str) -> usize {
    let runs = fs::read_to_string(site.workspace().join("runs")).unwrap_or_default();
    runs.lines().filter(|line| *line == job).count()
}

#[test]
#[ignore = "needs Docker"]
fn random_kills_of_the_relay_while_boxes_start_and_end_lose_no_job_and_leave_no_box() {
    let seed = seed();
    println!("seed: {seed}");
    let (mut noise, mut tally) = (Noise(seed), Tally::default());
    let (jobs, kills_of_job) = times((4, 2), (100, 3));
    let site = site("max_jobs = 8\nmemory = \"256MiB\"\npids = 64\n");
    let mut launched = Vec::new();
    for n in 0..jobs {
        let command = "echo $RELAY_JOB >>runs; sleep 0.$((RANDOM % 9)); echo run";
        launched.push(site.launch_shell(&format!("exec bash -c '{command}'"), &["-n", &format!("j{n}")]));
        for _ in 0..kills_of_job {
            replace_relay(&site, &mut noise);
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for job in &launched {
        let record = until_by(deadline, &format!("{job} ends (seed {seed})"), || {
            Some(site.record(job)).filter(|record| record.state.is_final())
        });
        tally.add(&record, count_runs(&site, job));
    }
    site.wait_for_no_box();
    figure(&format!(
        "boxes: relay killed {} times while {jobs} boxes started and ended: {} jobs completed, {} ended with a reason, {} lost, {} ran twice",
        jobs * kills_of_job,
        tally.completed,
        tally.failed,
        tally.unexplained.len(),
        tally.miscounted.len()
    ));
    assert_eq!(tally.completed + tally.failed, jobs, "seed {seed}: {tally:?}");
    assert_eq!(tally.miscounted, Vec::<String>::new(), "seed {seed}");
    // A kill of the relay is no reason for a job to fail: its agent goes on by itself.
    assert_eq!(tally.failed, 0, "seed {seed}: {tally:?}\n{}", site.daemon_log());
}
