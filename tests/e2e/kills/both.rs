//! Relay and agent are killed together.

use std::time::Duration;

use common::record::State;
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::until;

use super::agent::{kill_agent, site, spooled};
use super::programs::Program;
use super::talker::{self, JOBS, Tally};
use super::{instant, logged, pass};

const LIFE: Duration = Duration::from_millis(300);

#[test]
fn n03_relay_and_agent_that_are_killed_together_lose_double_and_skip_nothing() {
    let (site, mut relay) = site();
    let (kills, mut tally) = (times(40, 1_500), Tally::default());
    for round in 0..kills {
        let workspaces: Vec<String> = (1..=JOBS).map(|n| format!("r{round}w{n}")).collect();
        let mut agent = Program::agent(&site, None);
        let jobs: Vec<String> = workspaces.iter().map(|workspace| talker::launch(&site, workspace)).collect();
        until("the jobs are told of", || (logged(&site, &jobs) > 8192).then_some(()));
        pass(instant(round, LIFE));
        if round % 2 == 0 {
            relay.kill();
            agent.kill();
        } else {
            agent.kill();
            relay.kill();
        }
        let held: Vec<u64> = jobs.iter().map(|job| spooled(&site, job)).collect();
        for workspace in &workspaces {
            talker::stop(&site, workspace);
        }
        relay = Program::relay(&site, None);
        let mut next = Program::agent(&site, None);
        for (job, held) in jobs.iter().zip(held) {
            let record = site.ended(job);
            assert!(matches!(record.state, State::Failed | State::Completed), "{record:#?}");
            tally.add(&site, job, held);
        }
        next.kill();
        kill_agent(&site);
    }
    figure(&format!("N03: relay and agent killed {kills} times together: {}", tally.text()));
    assert!(tally.is_right(), "{tally:?}");
}
