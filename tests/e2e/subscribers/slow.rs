//! Test of subscribers that don't read.

use std::fs;
use std::time::{Duration, Instant};

use common::event::EventBody;
use relay_tests::harness::figures::{figure, percentile, times};
use relay_tests::harness::{Engine, PATIENCE, Site};

use super::client::{Client, Received};
use super::controlled_agent::ControlledAgent;

/// Number of events in a batch: with their text a batch has 64 KiB, the usual maximum.
const EVENTS_PER_BATCH: usize = 32;
/// Length of an event's text, in bytes.
const TEXT_SIZE: usize = 2000;
/// Number of batches in a round. They are larger than the kernel's buffers of a connection.
const BATCHES_PER_ROUND: usize = 120;
const SLOW_SUBSCRIBERS: usize = 4;

fn batch() -> Vec<EventBody> {
    vec![EventBody::Message { text: "x".repeat(TEXT_SIZE) }; EVENTS_PER_BATCH]
}

/// Returns the resident memory of a process, in KiB.
fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns the CPU time of all threads of a process.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // A tick is 10 ms on every Linux.
    Duration::from_millis(10 * ticks)
}

/// Cost of all rounds of one kind.
#[derive(Default)]
struct Cost {
    /// Time that the agent waited for each acknowledgement.
    acks: Vec<Duration>,
    /// CPU time of the relay.
    cpu: Duration,
}

impl Cost {
    async fn add_round(&mut self, agent: &mut ControlledAgent, relay: u32) {
        let before = cpu_time(relay);
        for _ in 0..BATCHES_PER_ROUND {
            self.acks.push(agent.send_events(batch()).await);
        }
        self.cpu += cpu_time(relay).saturating_sub(before);
    }

    fn p99(&self) -> Duration {
        percentile(self.acks.clone(), 99)
    }

    /// Returns a text that compares the cost with that of rounds without subscribers.
    fn compared_with(&self, alone: &Self) -> String {
        let part = |now: Duration, then: Duration| {
            format!("{now:.1?} ({:+.0} %)", (now.as_secs_f64() / then.as_secs_f64() - 1.0) * 100.0)
        };
        let p50 = |cost: &Self| percentile(cost.acks.clone(), 50);
        format!(
            "p50 {}, p99 {}, relay's CPU {}",
            part(p50(self), p50(alone)),
            part(self.p99(), alone.p99()),
            part(self.cpu, alone.cpu)
        )
    }
}

#[tokio::test]
async fn n12_a_subscriber_that_does_not_read_slows_no_agent_and_is_disconnected() {
    let site = Site::up(Engine::Local);
    let mut agent = ControlledAgent::with_job(&site).await;
    let relay = site.daemon_pid();
    let (mut alone, mut filling, mut full) = (Cost::default(), Cost::default(), Cost::default());
    let (mut before, mut grown) = (None, 0);
    // The kinds of rounds take turns, so that other load of the machine affects all alike.
    for _ in 0..times(4, 40) {
        alone.add_round(&mut agent, relay).await;
        // Measured only once: the first subscribers allocate buffers that later ones reuse.
        let before = *before.get_or_insert_with(|| memory_kib(relay));
        let mut stuck = Vec::new();
        for _ in 0..SLOW_SUBSCRIBERS {
            stuck.push(Client::subscribe(&site, "").await.unwrap());
        }
        filling.add_round(&mut agent, relay).await;
        full.add_round(&mut agent, relay).await;
        grown = memory_kib(relay).saturating_sub(before);
    }
    figure(&format!(
        "{SLOW_SUBSCRIBERS} subscribers that never read (fault N12): an agent's ack: {}; while their connections fill: {}; {} KiB each",
        full.compared_with(&alone),
        filling.compared_with(&alone),
        grown / SLOW_SUBSCRIBERS as u64
    ));
    // An agent that had to wait for a subscriber would wait until the relay gives the subscriber up, after 14 s.
    let slowest = percentile(full.acks.clone(), 100).max(percentile(filling.acks.clone(), 100));
    assert!(slowest < Duration::from_secs(12), "{slowest:?}");
    assert!(grown / (SLOW_SUBSCRIBERS as u64) < 4096, "{grown} KiB");

    let disconnects = || site.daemon_log().matches("disconnected after event").count();
    let earlier = disconnects();
    let mut client = Client::subscribe(&site, "").await.unwrap();
    for _ in 0..BATCHES_PER_ROUND {
        agent.send_events(batch()).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while disconnects() == earlier {
        agent.idle(Duration::from_millis(20)).await;
        assert!(Instant::now() < deadline, "the subscriber is not disconnected");
    }
    // When the subscriber reads at last, it still gets the close frame with the cursor from which to resume.
    let mut ids = Vec::new();
    let end = loop {
        match client.next().await {
            Received::Event(id, _) => ids.push(id),
            end => break end,
        }
    };
    let cursor = *ids.last().unwrap();
    assert_eq!(end, Received::Closed(4008, format!("{{\"cursor\":{cursor}}}")));
    agent.finish(&site).await;
    let mut client = Client::subscribe(&site, &format!("?since={cursor}")).await.unwrap();
    while let Received::Event(id, text) = client.next().await {
        ids.push(id);
        if text.contains("\"type\":\"finished\"") {
            break;
        }
    }
    let all: Vec<u64> = (ids[0]..).take(ids.len()).collect();
    assert_eq!(ids, all);
}
