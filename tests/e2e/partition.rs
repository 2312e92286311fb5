//! Delivery over a bad network: relay and agent in namespaces of their own, real packets in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::{Link, State};
use jiff::Timestamp;
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::netns::{Apart, Cut};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, until, until_by};

/// Silence after which a side gives the connection up, with a margin for a busy machine.
const DETECTED: Duration = Duration::from_millis(15_500);
/// Time from a healed network to a restored connection: an attempt in progress fails within 2 s (it sends its last
/// packet 3 s after its beginning, and gives up after 5), the next one begins within 5 s; plus a margin.
const RECOVERED: Duration = Duration::from_millis(7_500);

/// Launches a job that writes a numbered line every 20 ms until the file `go` exists.
fn counting(site: &Site) -> String {
    let line = "i=0; until test -e go; do i=$((i+1)); echo line $i; sleep 0.02; done; echo $i >count";
    let job = site.launch_shell(line, &[]);
    until("it counts", || site.log(&job).contains("line 3").then_some(()));
    job
}

/// Ends the job and checks that every line is there once, in order. The site checks on drop that its events are dense
/// and its record is their fold.
fn nothing_is_lost(site: &Site, job: &str) -> usize {
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(job)), (State::Completed, None));
    let count = std::fs::read_to_string(site.workspace().join("count")).unwrap();
    let count = count.trim().parse().unwrap();
    let expected: Vec<String> = (1..=count).map(|n| format!("line {n}")).collect();
    similar_asserts::assert_eq!(site.log(job).lines().collect::<Vec<_>>(), expected);
    count
}

/// Waits until the connection of a job has this state.
fn link(site: &Site, job: &str, link: Link) {
    let deadline = Instant::now() + Duration::from_secs(40);
    until_by(deadline, &format!("the link is {link:?}"), || {
        (site.record(job).link == Some(link)).then_some(())
    });
}

#[test]
#[ignore = "needs root, nftables and python3"]
fn n04_a_partition_without_a_word_is_seen_in_15_s_and_heals_by_itself() {
    let apart = Apart::new();
    let site = &apart.site;
    let job = counting(site);
    apart.net.cut(Cut::Both);
    let cut = Instant::now();
    link(site, &job, Link::Lost);
    let detected = cut.elapsed();
    assert_eq!(site.record(&job).state, State::Running, "the work goes on");
    // Both have given the connection up by now, and the agent's attempts have become rare.
    until("both have given up", || (cut.elapsed() > Duration::from_secs(22)).then_some(()));
    apart.net.cut(Cut::None);
    let healed = Instant::now();
    link(site, &job, Link::Connected);
    let recovered = healed.elapsed();
    let lines = nothing_is_lost(site, &job);
    assert!(detected <= DETECTED, "{detected:?}");
    assert!(recovered <= RECOVERED, "{recovered:?}");
    figure(&format!(
        "N04: partition detected after {}, healed {} after its end; of {lines} lines lost 0, duplicated 0, gaps 0",
        ms(detected),
        ms(recovered)
    ));
}

#[test]
#[ignore = "needs root, nftables and python3"]
fn n05_acks_that_are_lost_one_way_double_nothing() {
    let apart = Apart::new();
    let site = &apart.site;
    let job = counting(site);
    for (direction, cut) in [("acks", Cut::ToAgent), ("events", Cut::ToRelay)] {
        let before = connections(site);
        apart.net.cut(cut);
        let begun = Instant::now();
        let passed = Duration::from_secs(20);
        until(&format!("{direction} were lost for 20 s"), || (begun.elapsed() >= passed).then_some(()));
        apart.net.cut(Cut::None);
        until("they have a new connection", || (connections(site) > before).then_some(()));
        link(site, &job, Link::Connected);
    }
    let lines = nothing_is_lost(site, &job);
    figure(&format!("N05: acks, then events lost for 20 s: of {lines} lines lost 0, duplicated 0, gaps 0"));
}

/// Number of times that an agent was welcomed.
fn connections(site: &Site) -> usize {
    site.daemon_log().matches("is connected").count()
}

#[test]
#[ignore = "needs root, nftables and python3"]
fn n06_everything_arrives_over_a_network_that_loses_delays_and_reorders() {
    let mut apart = Apart::new();
    apart.net.disturb(20, 200, 100);
    let site = &apart.site;
    let many = times(40, 400);
    let mut flags = Vec::new();
    for _ in 0..many {
        flags.extend(["--setup", "echo step; sleep 0.1"]);
    }
    let job = site.launch_shell("echo done", &flags);
    let mut seen: BTreeMap<u64, (Timestamp, Timestamp)> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(times(120, 1200));
    until_by(deadline, "the end is here", || {
        let mut ended = false;
        for line in site.events(&job).into_iter().filter(|line| line.epoch > 0) {
            let Some(event) = line.event else { continue };
            ended |= matches!(event.body, EventBody::Finished { .. });
            seen.entry(line.seq).or_insert((event.at, Timestamp::now()));
        }
        ended.then_some(())
    });
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    let expected = "$ echo step; sleep 0.1\nstep\n".repeat(many) + "done\n";
    similar_asserts::assert_eq!(site.log(&job), expected);
    let delays: Vec<Duration> = seen
        .values()
        .map(|(at, seen)| Duration::try_from(seen.duration_since(*at)).unwrap_or_default())
        .collect();
    figure(&format!(
        "N06: 20 % loss, 200 ± 100 ms, reordered: {} events, p50 {}, p99 {} to the registry; lost 0, duplicated 0, gaps 0",
        delays.len(),
        ms(percentile(delays.clone(), 50)),
        ms(percentile(delays, 99))
    ));
}
