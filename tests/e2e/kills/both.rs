//! Test that kills relay and agent together.

use std::time::Duration;

use common::record::State;
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::until;

use super::agent::{highest_spooled_message, kill_agent, site};
use super::programs::Program;
use super::talker::{self, JOBS, Tally};
use super::{let_time_pass, log_length, spread_instant};

/// Maximum lifetime of relay and agent once events of the jobs are in the logs.
const MAX_LIFETIME: Duration = Duration::from_millis(300);

#[test]
fn n03_relay_and_agent_that_are_killed_together_lose_and_duplicate_nothing() {
    let (site, mut relay) = site();
    let (kills, mut tally) = (times(40, 1_500), Tally::default());
    for round in 0..kills {
        let workspaces: Vec<String> = (1..=JOBS).map(|n| format!("r{round}w{n}")).collect();
        let mut agent = Program::agent(&site, None);
        let jobs: Vec<String> = workspaces.iter().map(|workspace| talker::launch(&site, workspace)).collect();
        until("events of the jobs are in the logs", || (log_length(&site, &jobs) > 8192).then_some(()));
        let_time_pass(spread_instant(round, MAX_LIFETIME));
        if round % 2 == 0 {
            relay.kill();
            agent.kill();
        } else {
            agent.kill();
            relay.kill();
        }
        let spooled: Vec<u64> = jobs.iter().map(|job| highest_spooled_message(&site, job)).collect();
        for workspace in &workspaces {
            talker::stop(&site, workspace);
        }
        relay = Program::relay(&site, None);
        let mut next = Program::agent(&site, None);
        for (job, spooled) in jobs.iter().zip(spooled) {
            let record = site.ended(job);
            assert!(matches!(record.state, State::Failed | State::Completed), "{record:#?}");
            tally.add(&site, job, spooled);
        }
        next.kill();
        kill_agent(&site);
    }
    figure(&format!("relay and agent killed {kills} times together (fault N03): {}", tally.text()));
    assert!(tally.is_complete(), "{tally:?}");
}
