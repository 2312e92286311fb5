//! Tests that kill the relay while its agent sends many messages.

use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::{Site, until};

use super::programs::{KillPoint, Program};
use super::talker::{self, JOBS, Tally};
use super::{CALLS, let_time_pass, log_length, spread_instant};

/// Maximum lifetime of a relay once events reach it, long enough for several group commits.
const MAX_LIFETIME: Duration = Duration::from_millis(150);
/// Maximum time for a relay to reach the system call at which it is killed.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Creates a site with jobs that report messages without pause, and kills its relay.
fn talking_jobs_without_relay() -> (Site, Vec<String>) {
    let site = talker::site();
    let jobs: Vec<String> = (1..=JOBS).map(|n| talker::launch(&site, &format!("w{n}"))).collect();
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    let pid = i32::try_from(site.daemon_pid()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL).unwrap();
    (site, jobs)
}

/// Ends the jobs and compares their logs with the reported messages.
fn tally_of(site: &Site, jobs: &[String]) -> Tally {
    let _relay = Program::relay(site, None);
    (1..=JOBS).for_each(|n| talker::stop(site, &format!("w{n}")));
    let mut tally = Tally::default();
    for (n, job) in (1..).zip(jobs) {
        let record = site.ended(job);
        assert_eq!(record.state, State::Completed, "{record:#?}");
        tally.add(site, job, talker::reported_messages(site, &format!("w{n}")));
    }
    tally
}

/// Starts and kills `kills` relays, one after the other, at instants that differ.
fn kill_at_instants(kills: u32) -> Tally {
    let (site, jobs) = talking_jobs_without_relay();
    for round in 0..kills {
        let before = log_length(&site, &jobs);
        let mut relay = Program::relay(&site, None);
        if round % 3 > 0 {
            until("events reach the relay", || (log_length(&site, &jobs) > before).then_some(()));
        }
        let_time_pass(spread_instant(round, MAX_LIFETIME));
        relay.kill();
        for job in &jobs {
            assert_eq!(site.record(job).state, State::Running, "the job goes on without the relay");
        }
    }
    tally_of(&site, &jobs)
}

/// Starts relays and kills each at a system call, later in each round; returns the number of those that reached it.
fn kill_at_calls(rounds: u32) -> (u32, Tally) {
    let (site, jobs) = talking_jobs_without_relay();
    let mut kills = 0;
    for round in 1..=rounds {
        for call in CALLS {
            // The first calls belong to the start; with three times the round the kills also hit later work.
            let mut relay = Program::relay(&site, Some(KillPoint { call, nth: round * 3 }));
            let deadline = Instant::now() + CALL_TIMEOUT;
            while !relay.has_ended() && Instant::now() < deadline {
                let_time_pass(Duration::from_millis(5));
            }
            kills += u32::from(relay.has_ended());
            relay.kill();
        }
    }
    (kills, tally_of(&site, &jobs))
}

#[test]
fn n01_a_relay_killed_at_any_instant_loses_and_duplicates_nothing() {
    // Each batch of fifty kills has jobs of its own, because this test is not about large logs.
    let (batches, kills, mut tally) = (times(1, 110), 50, Tally::default());
    for _ in 0..batches {
        tally.add_counts_of(kill_at_instants(kills));
    }
    figure(&format!("relay killed {} times at any instant (fault N01): {}", batches * kills, tally.text()));
    assert!(tally.is_complete(), "{tally:?}");
}

#[test]
fn n01_a_relay_killed_at_any_of_its_system_calls_loses_and_duplicates_nothing() {
    let (batches, mut kills, mut tally) = (times(1, 50), 0, Tally::default());
    for _ in 0..batches {
        let (batch_kills, batch_tally) = kill_at_calls(4);
        kills += batch_kills;
        tally.add_counts_of(batch_tally);
    }
    figure(&format!("relay killed {kills} times at a system call of its own (fault N01): {}", tally.text()));
    assert!(kills > 0 && tally.is_complete(), "{tally:?}");
}
