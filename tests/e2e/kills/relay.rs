//! The relay is killed while agents send it many messages.

use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::{Site, until};

use super::programs::{Place, Program};
use super::talker::{self, JOBS, Tally};
use super::{CALLS, instant, logged, pass};

/// Maximum lifetime of a relay once events reach it: several group commits.
const LIFE: Duration = Duration::from_millis(150);
/// Time within which a relay that is to die at a system call has to reach it.
const REACH: Duration = Duration::from_secs(2);

/// Creates jobs that report messages without pause, and no relay.
fn talking() -> (Site, Vec<String>) {
    let site = talker::site();
    let jobs: Vec<String> = (1..=JOBS).map(|n| talker::launch(&site, &format!("w{n}"))).collect();
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    let pid = i32::try_from(site.daemon_pid()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL).unwrap();
    (site, jobs)
}

/// Ends the jobs and counts their events.
fn tally(site: &Site, jobs: &[String]) -> Tally {
    let _relay = Program::relay(site, None);
    (1..=JOBS).for_each(|n| talker::stop(site, &format!("w{n}")));
    let mut tally = Tally::default();
    for (n, job) in (1..).zip(jobs) {
        let record = site.ended(job);
        assert_eq!(record.state, State::Completed, "{record:#?}");
        tally.add(site, job, talker::told(site, &format!("w{n}")));
    }
    tally
}

/// Kills this many relays at random instants.
fn at_instants(kills: u32) -> Tally {
    let (site, jobs) = talking();
    for round in 0..kills {
        let before = logged(&site, &jobs);
        let mut relay = Program::relay(&site, None);
        if round % 3 > 0 {
            until("events reach the relay", || (logged(&site, &jobs) > before).then_some(()));
        }
        pass(instant(round, LIFE));
        relay.kill();
        for job in &jobs {
            assert_eq!(site.record(job).state, State::Running, "whatever happens to the relay");
        }
    }
    tally(&site, &jobs)
}

/// Kills relays at their system calls, in later rounds at later calls; returns the number of relays that reached their
/// call.
fn at_calls(rounds: u32) -> (u32, Tally) {
    let (site, jobs) = talking();
    let mut kills = 0;
    for round in 1..=rounds {
        for call in CALLS {
            // The first calls belong to the start; a step of three gets far into the work.
            let mut relay = Program::relay(&site, Some(Place { call, nth: round * 3 }));
            let deadline = Instant::now() + REACH;
            while !relay.has_ended() && Instant::now() < deadline {
                pass(Duration::from_millis(5));
            }
            kills += u32::from(relay.has_ended());
            relay.kill();
        }
    }
    (kills, tally(&site, &jobs))
}

#[test]
fn n01_a_relay_that_is_killed_at_any_instant_loses_doubles_and_skips_nothing() {
    // Separate jobs for each fifty kills: a log that grows for hours is the subject of another test.
    let (batches, kills, mut tally) = (times(1, 110), 50, Tally::default());
    for _ in 0..batches {
        tally.join(at_instants(kills));
    }
    figure(&format!("N01: relay killed {} times at any instant: {}", batches * kills, tally.text()));
    assert!(tally.is_right(), "{tally:?}");
}

#[test]
fn n01_a_relay_killed_at_any_of_its_system_calls_loses_doubles_and_skips_nothing() {
    let (batches, mut kills, mut tally) = (times(1, 50), 0, Tally::default());
    for _ in 0..batches {
        let (more, of_these) = at_calls(4);
        kills += more;
        tally.join(of_these);
    }
    figure(&format!("N01: relay killed {kills} times at a system call of its own: {}", tally.text()));
    assert!(kills > 0 && tally.is_right(), "{tally:?}");
}
