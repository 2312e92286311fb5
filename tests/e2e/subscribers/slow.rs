//! Subscribers that do not read.

use std::fs;
use std::time::{Duration, Instant};

use common::event::EventBody;
use relay_tests::harness::figures::{figure, percentile, times};
use relay_tests::harness::{Engine, PATIENCE, Site};

use super::client::{Client, Heard};
use super::stand_in::StandIn;

/// Number of events in a batch, which together with their size makes 64 KiB, the usual size of a full one.
const BATCH: usize = 32;
const TEXT: usize = 2000;
/// Number of batches in a round: more than the kernel's buffers of a connection hold.
const ROUND: usize = 120;
/// Number of subscribers that read nothing, in the rounds `filling` and `full`.
const SLOW: usize = 4;

fn batch() -> Vec<EventBody> {
    vec![EventBody::Message { text: "x".repeat(TEXT) }; BATCH]
}

/// Resident memory of a process, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time of all threads of a process.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // A tick is 10 ms on every Linux.
    Duration::from_millis(10 * ticks)
}

/// Cost of the rounds of one kind.
#[derive(Default)]
struct Cost {
    /// Time that the agent waited for each acknowledgement.
    acks: Vec<Duration>,
    /// CPU time of the relay in these rounds.
    cpu: Duration,
}

impl Cost {
    async fn round(&mut self, agent: &mut StandIn, relay: u32) {
        let before = cpu(relay);
        for _ in 0..ROUND {
            self.acks.push(agent.say(batch()).await);
        }
        self.cpu += cpu(relay).saturating_sub(before);
    }

    fn p99(&self) -> Duration {
        percentile(self.acks.clone(), 99)
    }

    /// Text that compares it with the cost of another kind.
    fn beside(&self, alone: &Self) -> String {
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
async fn n12_a_subscriber_that_never_reads_slows_no_agent_and_is_cut_off_with_its_cursor() {
    let site = Site::up(Engine::Local);
    let mut agent = StandIn::with_job(&site).await;
    let relay = site.daemon_pid();
    let (mut alone, mut filling, mut full) = (Cost::default(), Cost::default(), Cost::default());
    let (mut before, mut grown) = (None, 0);
    // In turn, so that other load of the machine affects all kinds alike.
    for _ in 0..times(4, 40) {
        alone.round(&mut agent, relay).await;
        // The first subscribers allocate the buffers, which later ones reuse.
        let before = *before.get_or_insert_with(|| memory(relay));
        let mut stuck = Vec::new();
        for _ in 0..SLOW {
            stuck.push(Client::subscribe(&site, "").await.unwrap());
        }
        filling.round(&mut agent, relay).await;
        full.round(&mut agent, relay).await;
        grown = memory(relay).saturating_sub(before);
    }
    figure(&format!(
        "N12: an agent's ack beside {SLOW} subscribers that never read: {}; while their connections fill: {}; {} KiB each",
        full.beside(&alone),
        filling.beside(&alone),
        grown / SLOW as u64
    ));
    // The figure carries the result; a machine with other load must not fail here.
    assert!(full.p99() < alone.p99() * 3 + Duration::from_millis(20));
    assert!(grown / (SLOW as u64) < 4096, "{grown} KiB");

    let cut_off = || site.daemon_log().matches("disconnected after event").count();
    let earlier = cut_off();
    let mut client = Client::subscribe(&site, "").await.unwrap();
    for _ in 0..ROUND {
        agent.say(batch()).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while cut_off() == earlier {
        agent.idle(Duration::from_millis(20)).await;
        assert!(Instant::now() < deadline, "it is not cut off");
    }
    // A subscriber that reads only now still receives the reason, and the cursor from which to resume.
    let mut ids = Vec::new();
    let end = loop {
        match client.next().await {
            Heard::Event(id, _) => ids.push(id),
            end => break end,
        }
    };
    let cursor = *ids.last().unwrap();
    assert_eq!(end, Heard::Closed(4008, format!("{{\"cursor\":{cursor}}}")));
    agent.finish(&site).await;
    let mut client = Client::subscribe(&site, &format!("?since={cursor}")).await.unwrap();
    while let Heard::Event(id, text) = client.next().await {
        ids.push(id);
        if text.contains("\"type\":\"finished\"") {
            break;
        }
    }
    let all: Vec<u64> = (ids[0]..).take(ids.len()).collect();
    assert_eq!(ids, all);
}
