//! Delivery over a bad network: relay and agent are in separate network namespaces, with real packets between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::{Link, State};
use jiff::Timestamp;
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::netns::{Cut, SeparatedSite};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, until, until_by};

/// Maximum time until the loss of the network is recorded: 14 s and a margin for a busy machine. TCP itself would notice
/// it after minutes.
const MAX_DETECTION: Duration = Duration::from_secs(60);
/// Maximum time from a restored network to a restored connection: 7 s and a margin for a busy machine. An attempt to
/// connect that is in progress fails within 2 s, because it gives up 5 s after its start and sends its last packet after
/// 3 s. The next attempt begins within 5 s.
const MAX_RECOVERY: Duration = Duration::from_secs(30);

/// Launches a job that writes a numbered line every 20 ms until the file `go` exists.
fn launch_counting_job(site: &Site) -> String {
    let line = "i=0; until test -e go; do i=$((i+1)); echo line $i; sleep 0.02; done; echo $i >count";
    let job = site.launch_shell(line, &[]);
    until("the job counts", || site.log(&job).contains("line 3").then_some(()));
    job
}

/// Ends the job and checks that its log has every line once and in order; returns the number of lines.
fn check_nothing_is_lost(site: &Site, job: &str) -> usize {
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(job)), (State::Completed, None));
    let count = std::fs::read_to_string(site.workspace().join("count")).unwrap();
    let count = count.trim().parse().unwrap();
    let expected: Vec<String> = (1..=count).map(|n| format!("line {n}")).collect();
    similar_asserts::assert_eq!(site.log(job).lines().collect::<Vec<_>>(), expected);
    count
}

/// Waits until the connection of a job has this state.
fn wait_for_link(site: &Site, job: &str, link: Link) {
    until(&format!("the link is {link:?}"), || (site.record(job).link == Some(link)).then_some(()));
}

#[test]
#[ignore = "needs root, nftables and python3"]
fn n04_a_silent_partition_is_detected_and_the_agent_reconnects_after_it() {
    let separated = SeparatedSite::new();
    let site = &separated.site;
    let job = launch_counting_job(site);
    separated.net.cut(Cut::Both);
    let cut = Instant::now();
    wait_for_link(site, &job, Link::Lost);
    let detected = cut.elapsed();
    assert_eq!(site.record(&job).state, State::Running, "the work goes on");
    // After this time both sides have given the connection up, and the agent tries to connect only every few seconds.
    until("both sides have given up", || (cut.elapsed() > Duration::from_secs(22)).then_some(()));
    separated.net.cut(Cut::None);
    let healed = Instant::now();
    wait_for_link(site, &job, Link::Connected);
    let recovered = healed.elapsed();
    let lines = check_nothing_is_lost(site, &job);
    assert!(detected <= MAX_DETECTION, "{detected:?}");
    assert!(recovered <= MAX_RECOVERY, "{recovered:?}");
    figure(&format!(
        "network partition (fault N04): detected after {}, healed {} after it was over; of {lines} lines lost 0, duplicated 0, gaps 0",
        ms(detected),
        ms(recovered)
    ));
}

#[test]
#[ignore = "needs root, nftables and python3"]
fn n05_a_network_that_loses_one_direction_duplicates_nothing() {
    let separated = SeparatedSite::new();
    let site = &separated.site;
    let job = launch_counting_job(site);
    for (direction, cut) in [("acks", Cut::ToAgent), ("events", Cut::ToRelay)] {
        let before = count_connections(site);
        separated.net.cut(cut);
        let started = Instant::now();
        let passed = Duration::from_secs(20);
        until(&format!("{direction} were lost for 20 s"), || (started.elapsed() >= passed).then_some(()));
        separated.net.cut(Cut::None);
        until("the agent has a new connection", || (count_connections(site) > before).then_some(()));
        wait_for_link(site, &job, Link::Connected);
    }
    let lines = check_nothing_is_lost(site, &job);
    figure(&format!(
        "acks, then events lost for 20 s (fault N05): of {lines} lines lost 0, duplicated 0, gaps 0"
    ));
}

/// Returns the number of times that an agent has connected.
fn count_connections(site: &Site) -> usize {
    site.daemon_log().matches("is connected").count()
}

#[test]
#[ignore = "needs root, nftables and python3"]
fn n06_everything_arrives_over_a_network_that_loses_delays_and_reorders() {
    let mut separated = SeparatedSite::new();
    separated.net.disturb(20, 200, 100);
    let site = &separated.site;
    let setups = times(40, 400);
    let mut flags = Vec::new();
    for _ in 0..setups {
        flags.extend(["--setup", "echo step; sleep 0.1"]);
    }
    let job = site.launch_shell("echo done", &flags);
    let mut seen: BTreeMap<u64, (Timestamp, Timestamp)> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(times(240, 1200));
    until_by(deadline, "the outcome has arrived", || {
        let mut ended = false;
        for line in site.events(&job).into_iter().filter(|line| line.epoch > 0) {
            let Some(event) = line.event else { continue };
            ended |= matches!(event.body, EventBody::Finished { .. });
            seen.entry(line.seq).or_insert((event.at, Timestamp::now()));
        }
        ended.then_some(())
    });
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    let expected = "$ echo step; sleep 0.1\nstep\n".repeat(setups) + "done\n";
    similar_asserts::assert_eq!(site.log(&job), expected);
    let delays: Vec<Duration> = seen
        .values()
        .map(|(at, seen)| Duration::try_from(seen.duration_since(*at)).unwrap_or_default())
        .collect();
    figure(&format!(
        "network with 20 % loss, 200 ± 100 ms, reordered (fault N06): {} events, p50 {}, p99 {} to the registry; lost 0, duplicated 0, gaps 0",
        delays.len(),
        ms(percentile(delays.clone(), 50)),
        ms(percentile(delays, 99))
    ));
}
