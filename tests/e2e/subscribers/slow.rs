//! Who takes nothing.

use std::fs;
use std::time::{Duration, Instant};

use common::event::EventBody;
use relay_tests::harness::figures::{figure, percentile, times};
use relay_tests::harness::{Engine, PATIENCE, Site};

use super::client::{Client, Heard};
use super::stand_in::StandIn;

/// Events of a batch, and bytes of each: 64 KiB, the usual size of a full one.
const BATCH: usize = 32;
const TEXT: usize = 2000;
/// Batches of a round: more than the kernel's buffers of a connection take.
const ROUND: usize = 120;
/// Subscribers that read nothing, in every second round.
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

#[tokio::test]
async fn n12_a_subscriber_that_never_reads_slows_no_agent_and_is_cut_off_with_its_cursor() {
    let site = Site::new(Engine::Local);
    site.relay(&["up"]);
    let mut agent = StandIn::with_job(&site).await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut stuck = Vec::new();
    let mut grown = 0;
    let mut before = None;
    // In turn, so that what else the machine does meets both alike.
    for _ in 0..times(3, 40) {
        for _ in 0..ROUND {
            alone.push(agent.say(batch()).await);
        }
        // The first subscribers make the buffers, which later ones find.
        let before = *before.get_or_insert_with(|| memory(site.daemon_pid()));
        stuck.clear();
        for _ in 0..SLOW {
            stuck.push(Client::subscribe(&site, "").await.unwrap());
        }
        for _ in 0..ROUND {
            beside.push(agent.say(batch()).await);
        }
        grown = memory(site.daemon_pid()).saturating_sub(before);
    }
    let (p99, beside_p99) = (percentile(alone.clone(), 99), percentile(beside.clone(), 99));
    let (p50, beside_p50) = (percentile(alone, 50), percentile(beside, 50));
    let change = |now: Duration, then: Duration| (now.as_secs_f64() / then.as_secs_f64() - 1.0) * 100.0;
    figure(&format!(
        "N12: {SLOW} subscribers that never read: an agent's ack p50 {p50:.2?} → {beside_p50:.2?} ({:+.0} %), p99 {p99:.2?} → \
         {beside_p99:.2?} ({:+.0} %), {} KiB of memory each",
        change(beside_p50, p50),
        change(beside_p99, p99),
        grown / SLOW as u64
    ));
    assert!(beside_p99 < p99 * 3 + Duration::from_millis(20), "{p99:?} → {beside_p99:?}");
    assert!(grown / (SLOW as u64) < 4096, "{grown} KiB");

    stuck.clear();
    let cut_off = || site.daemon_log().matches("cut off behind event").count();
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
    // Whoever reads now still hears why, and from where on to come back.
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
