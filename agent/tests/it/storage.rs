//! Disks that are full or broken: every event is delivered all the same, and no false claim is made.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::fs;

use crate::support::disk::{SmallDisk, failing};
use crate::support::figures::{figure, resident_kib, times};
use crate::support::{Place, Run, codex, connected_at, eventually};
use common::event::{EventBody, FinalState};

/// Bytes that a log reports as dropped, and bytes that it holds beside these notes.
fn dropped(text: &str) -> (usize, usize) {
    let (mut noted, mut kept) = (0, text.len());
    for (at, _) in text.match_indices("\n[… ") {
        let line = text[at + 1..].split_inclusive('\n').next().unwrap();
        let count = line.strip_prefix("[… ").and_then(|line| line.split_once(" bytes of output dropped: "));
        noted += count.unwrap().0.parse::<usize>().unwrap();
        kept -= 1 + line.len();
    }
    (noted, kept)
}

fn warnings(run: &Run) -> Vec<&str> {
    let texts = run.events.iter().filter_map(|event| match &event.body {
        EventBody::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    texts.collect()
}

fn at(disk: &SmallDisk) -> Place<'_> {
    Place { state: Some(disk.path()), ..Place::default() }
}

#[tokio::test]
async fn s02_the_end_of_a_job_is_told_though_the_disk_of_the_spool_is_full() {
    let rounds = times(6, 60);
    let mut lines = 0;
    for round in 0..rounds {
        let disk = SmallDisk::new(3 * 1024);
        let (mut relay, mut agent) = connected_at(&serde_json::json!({}), &at(&disk)).await;
        let line = "echo ready; until test -e go; do sleep 0.01; done; seq 1 300000; touch done";
        relay.start(&agent.shell("demo#1", line)).await;
        relay.until_output("demo#1", "ready").await;
        let address = relay.leave().await;
        disk.fill();
        fs::write(agent.workspace().join("go"), "").unwrap();
        eventually("the job ends without a relay", || agent.workspace().join("done").exists()).await;
        if round % 2 == 1 {
            // The outcome must be on the disk, or the restarted agent would report another one.
            eventually("the reserve is given back", || disk.free_kib() > 256).await;
            agent.kill();
            agent.again();
        }
        relay.come_back(address).await;
        relay.accept().await;
        let run = relay.until_finished("demo#1").await;
        assert_eq!(run.finished(), Some((FinalState::Completed, None, Some(0))), "round {round}");
        assert!(run.cleanup().is_some());
        let written = 6 + (1..=300_000).map(|n: u32| n.to_string().len() + 1).sum::<usize>();
        let (noted, kept) = dropped(&run.text());
        assert_eq!(noted + kept, written, "round {round}: {noted} dropped");
        assert!(noted > 0 && run.text().contains("the agent's disk was full"));
        lines += noted;
    }
    figure(&format!(
        "S02 spool's disk full: {rounds} of {rounds} ends told, {lines} bytes of output dropped and each of them noted"
    ));
}

#[tokio::test]
async fn s02_a_full_disk_and_no_relay_hold_the_worker_back_and_lose_no_event() {
    let disk = SmallDisk::new(3 * 1024);
    let (mut relay, agent) = connected_at(&serde_json::json!({}), &at(&disk)).await;
    let before = resident_kib(agent.child.id());
    let path = agent.dir.path().join("flood");
    let commands = 30_000;
    fs::write(&path, codex::flood(commands)).unwrap();
    let body = format!("until test -e go; do sleep 0.01; done; cat {}; touch done", path.display());
    relay.start(&codex::job(&agent, "demo#1", &codex::turn(&body))).await;
    relay.until_output("demo#1", "").await;
    relay.until_run("demo#1", "is accepted", |run| run.accepted > 0).await;
    let address = relay.leave().await;
    fs::write(agent.workspace().join("go"), "").unwrap();
    let stack = || fs::read_to_string(format!("/proc/{}/wchan", agent.child.id())).unwrap_or_default();
    eventually("the disk is full", || disk.free_kib() < 256 && stack().contains("epoll")).await;
    assert!(!agent.workspace().join("done").exists(), "the worker is not held back");
    let grown = resident_kib(agent.child.id()) - before;
    relay.come_back(address).await;
    relay.accept().await;
    let run = relay.until_completed("demo#1").await;
    let steps = run.finished_steps();
    assert!(steps >= commands, "{steps}");
    assert_eq!(warnings(run), [] as [&str; 0]);
    let copy = fs::metadata(agent.workspace().join(".codex-worker/demo.1/log.txt")).unwrap().len();
    let (noted, kept) = dropped(&run.text());
    assert_eq!((noted + kept) as u64, copy);
    let events = run.events.len();
    figure(&format!(
        "S02 spool's disk full for good: {events} events, lost 0, gaps 0, the worker waited, memory grew {grown} KiB"
    ));
}

#[tokio::test]
async fn s02_a_job_without_space_for_its_events_is_refused_or_waits_for_others_to_end() {
    let disk = SmallDisk::new(3 * 1024);
    let (mut relay, agent) = connected_at(&serde_json::json!({"max_jobs": 3}), &at(&disk)).await;
    let mut refusals = Vec::new();
    relay.start(&agent.shell("first#1", "until test -e go; do sleep 0.01; done")).await;
    relay.until("it is accepted", |relay| relay.runs.values().any(|run| run.accepted > 0)).await;
    disk.fill();
    for job in ["second#1", "third#1"] {
        relay.start(&agent.shell(job, "true")).await;
        let (reason, busy) = relay.until_refused(job).await;
        assert!(reason.contains("no room"), "{reason}");
        refusals.push(busy);
        if job == "second#1" {
            fs::write(agent.workspace().join("go"), "").unwrap();
            relay.until_finished("first#1").await;
            let spool = disk.path().join("spool.v5");
            relay.until("its room is free", |_| fs::read_dir(&spool).unwrap().count() == 0).await;
            disk.fill();
        }
    }
    // While the first job runs, the refusal is temporary: its end would free its space.
    assert_eq!(refusals, [true, false]);
    disk.empty();
    relay.start(&agent.shell("fourth#1", "true")).await;
    relay.until_completed("fourth#1").await;
}

/// Runs a short job below a tracer that makes some calls fail; returns the run once it is over or refused.
async fn traced(inject: &str) -> Run {
    let below = failing(inject);
    let place = Place { below: &below, ..Place::default() };
    let (mut relay, agent) = connected_at(&serde_json::json!({}), &place).await;
    relay.start(&agent.shell("demo#1", "echo hello; sleep 0.1; echo world")).await;
    relay.until_run("demo#1", "is over", |run| run.refused.is_some() || run.finished().is_some()).await;
    relay.runs.into_values().next().unwrap()
}

#[tokio::test]
async fn s06_an_fsync_that_fails_is_never_taken_for_one_that_did_not() {
    let (mut refused, mut told) = (0, 0);
    for error in ["EIO", "ENOSPC"] {
        // If nothing reaches the disk, the job is not accepted.
        for call in ["fsync:when=2+", "fdatasync:when=1+"] {
            // The very first fsync belongs to the agent's own id.
            let run = traced(&format!("{call}:error={error}")).await;
            assert_eq!((run.accepted, run.events.len()), (0, 0), "{call} {error}");
            assert!(run.refused.is_some());
            refused += 1;
        }
        // The first file is poisoned, the second one is good.
        let run = traced(&format!("fdatasync:error={error}:when=1")).await;
        assert_eq!((run.accepted, run.finished().unwrap().0), (1, FinalState::Completed));
        assert_eq!(warnings(&run).len(), 1, "{:?}", run.events);
        assert!(warnings(&run)[0].contains("new file"));
        // The same at the end of the run.
        let run = traced(&format!("fdatasync:error={error}:when=2")).await;
        assert_eq!((run.accepted, run.finished().unwrap().0), (1, FinalState::Completed));
        told += 2;
    }
    figure(&format!(
        "S06 spool's fsync fails: {refused} jobs refused, {told} went on in a new file, false claims 0"
    ));
}

#[tokio::test]
async fn s07_writes_that_are_interrupted_or_fail_are_repeated_and_each_event_arrives_once() {
    let mut kinds = Vec::new();
    for inject in [
        "pwrite64:error=EINTR:when=1+2",
        "pwrite64:error=EIO:when=4",
        "pwrite64:error=ENOSPC:when=4..6",
        "fallocate:error=EOPNOTSUPP:when=1+",
        "fallocate:error=EINTR:when=1+2",
    ] {
        let run = traced(inject).await;
        assert_eq!(run.finished().unwrap().0, FinalState::Completed, "{inject}");
        kinds.push(
            run.kinds().into_iter().filter(|kind| kind != "Warning" && kind != "warning").collect::<Vec<_>>(),
        );
    }
    let plain = kinds[0].clone();
    assert!(kinds.iter().all(|kinds| *kinds == plain), "{kinds:#?}");
    figure(&format!(
        "S07 interrupted and failing writes in {} ways: {} events each, torn 0",
        kinds.len(),
        plain.len()
    ));
}

#[tokio::test]
async fn output_survives_a_kill_byte_for_byte_where_no_space_can_be_reserved() {
    let below = failing("fallocate:error=EOPNOTSUPP:when=1+");
    let place = Place { below: &below, ..Place::default() };
    let (mut relay, mut agent) = connected_at(&serde_json::json!({}), &place).await;
    relay.start(&agent.shell("demo#1", "echo hello; sleep 1000")).await;
    relay.until_run("demo#1", "prints", |run| run.text() == "hello\n").await;
    agent.kill();
    relay.drop_connection();
    agent.again();
    relay.accept().await;
    assert_eq!(relay.until_finished("demo#1").await.text(), "hello\n");
}
