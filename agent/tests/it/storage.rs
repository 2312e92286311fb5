//! Tests of full and failing disks: every event is delivered, and nothing is reported as stored that is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::fs;

use crate::support::disk::{SmallDisk, strace_with_failures};
use crate::support::figures::{figure, resident_kib, times};
use crate::support::{Run, StartOptions, codex, eventually, relay_and_agent_with};
use common::event::{EventBody, FinalState};

/// Returns the number of bytes that notes in a log report as dropped, and the length of the log without these notes.
fn count_dropped(text: &str) -> (usize, usize) {
    let (mut dropped, mut printed) = (0, text.len());
    for (at, _) in text.match_indices("\n[… ") {
        let line = text[at + 1..].split_inclusive('\n').next().unwrap();
        let count = line.strip_prefix("[… ").and_then(|line| line.split_once(" bytes of output dropped: "));
        dropped += count.unwrap().0.parse::<usize>().unwrap();
        printed -= 1 + line.len();
    }
    (dropped, printed)
}

fn warnings(run: &Run) -> Vec<&str> {
    let texts = run.events.iter().filter_map(|event| match &event.body {
        EventBody::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    texts.collect()
}

fn with_state_on(disk: &SmallDisk) -> StartOptions<'_> {
    StartOptions { state: Some(disk.path()), ..StartOptions::default() }
}

#[tokio::test]
async fn s02_the_end_of_a_job_is_reported_although_the_spool_s_disk_is_full() {
    let rounds = times(6, 60);
    let mut dropped_bytes = 0;
    for round in 0..rounds {
        let disk = SmallDisk::new(3 * 1024);
        let (mut relay, mut agent) =
            relay_and_agent_with(&serde_json::json!({}), &with_state_on(&disk)).await;
        let line = "echo ready; until test -e go; do sleep 0.01; done; seq 1 300000; touch done";
        relay.start(&agent.shell_spec("demo#1", line)).await;
        relay.until_output("demo#1", "ready").await;
        let address = relay.stop_listening().await;
        disk.fill();
        fs::write(agent.workspace().join("go"), "").unwrap();
        eventually("the job ends without a relay", || agent.workspace().join("done").exists()).await;
        if round % 2 == 1 {
            // The agent frees its reserve when the outcome is on the disk, where the restarted agent will find it.
            eventually("the reserve is free", || disk.free_kib() > 256).await;
            agent.kill();
            agent.restart();
        }
        relay.listen_at(address).await;
        relay.accept().await;
        let run = relay.until_finished("demo#1").await;
        assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))), "round {round}");
        assert!(run.cleanup().is_some());
        let written = 6 + (1..=300_000).map(|n: u32| n.to_string().len() + 1).sum::<usize>();
        let (dropped, printed) = count_dropped(&run.log_text());
        assert_eq!(dropped + printed, written, "round {round}: {dropped} dropped");
        assert!(dropped > 0 && run.log_text().contains("the agent's disk was full"));
        dropped_bytes += dropped;
    }
    figure(&format!(
        "spool's disk full (fault S02): {rounds} of {rounds} outcomes reported, {dropped_bytes} bytes of output dropped and each of them noted"
    ));
}

#[tokio::test]
async fn s02_a_worker_waits_for_a_full_disk_without_a_relay_and_no_event_is_lost() {
    let disk = SmallDisk::new(3 * 1024);
    let (mut relay, agent) = relay_and_agent_with(&serde_json::json!({}), &with_state_on(&disk)).await;
    let before = resident_kib(agent.child.id());
    let path = agent.dir.path().join("flood");
    let commands = 30_000;
    fs::write(&path, codex::command_lines(commands)).unwrap();
    let body = format!("until test -e go; do sleep 0.01; done; cat {}; touch done", path.display());
    relay.start(&codex::job_spec(&agent, "demo#1", &codex::turn(&body))).await;
    relay.until_output("demo#1", "").await;
    relay.until_run("demo#1", "is accepted", |run| run.accept_count > 0).await;
    let address = relay.stop_listening().await;
    fs::write(agent.workspace().join("go"), "").unwrap();
    let wait_channel = || fs::read_to_string(format!("/proc/{}/wchan", agent.child.id())).unwrap_or_default();
    eventually("the disk is full", || disk.free_kib() < 256 && wait_channel().contains("epoll")).await;
    assert!(!agent.workspace().join("done").exists(), "the worker does not wait");
    let grown = resident_kib(agent.child.id()) - before;
    relay.listen_at(address).await;
    relay.accept().await;
    let run = relay.until_completed("demo#1").await;
    let steps = run.finished_step_count();
    assert!(steps >= commands, "{steps}");
    assert_eq!(warnings(run), [] as [&str; 0]);
    let copy = fs::metadata(agent.workspace().join(".codex-worker/demo.1/log.txt")).unwrap().len();
    let (dropped, printed) = count_dropped(&run.log_text());
    assert_eq!((dropped + printed) as u64, copy);
    let events = run.events.len();
    figure(&format!(
        "spool's disk full for good (fault S02): {events} events, lost 0, gaps 0, the worker waited, memory grew {grown} KiB"
    ));
}

#[tokio::test]
async fn s02_a_job_without_space_for_its_events_is_refused_or_waits_for_another() {
    let disk = SmallDisk::new(3 * 1024);
    let (mut relay, agent) =
        relay_and_agent_with(&serde_json::json!({"max_jobs": 3}), &with_state_on(&disk)).await;
    let mut refusals = Vec::new();
    relay.start(&agent.shell_spec("first#1", "until test -e go; do sleep 0.01; done")).await;
    relay.until("the first is accepted", |relay| relay.runs.values().any(|run| run.accept_count > 0)).await;
    disk.fill();
    for job in ["second#1", "third#1"] {
        relay.start(&agent.shell_spec(job, "true")).await;
        let (reason, is_busy) = relay.until_refused(job).await;
        assert!(reason.contains("no room"), "{reason}");
        refusals.push(is_busy);
        if job == "second#1" {
            fs::write(agent.workspace().join("go"), "").unwrap();
            relay.until_finished("first#1").await;
            let spool = disk.path().join("spool.v5");
            relay.until("the spool is empty", |_| fs::read_dir(&spool).unwrap().count() == 0).await;
            disk.fill();
        }
    }
    // While the first job runs, the refusal is temporary: the end of that job will free space.
    assert_eq!(refusals, [true, false]);
    disk.remove_filler();
    relay.start(&agent.shell_spec("fourth#1", "true")).await;
    relay.until_completed("fourth#1").await;
}

/// Runs a short job of an agent whose system calls fail as `inject` says; returns the ended or refused run.
async fn run_with_failures(inject: &str) -> Run {
    let wrapper = strace_with_failures(inject);
    let options = StartOptions { wrapper: &wrapper, ..StartOptions::default() };
    let (mut relay, agent) = relay_and_agent_with(&serde_json::json!({}), &options).await;
    relay.start(&agent.shell_spec("demo#1", "echo hello; sleep 0.1; echo world")).await;
    relay.until_run("demo#1", "is over", |run| run.refusal.is_some() || run.outcome().is_some()).await;
    relay.runs.into_values().next().unwrap()
}

#[tokio::test]
async fn s06_a_job_whose_fsync_fails_is_refused_or_goes_on_in_a_new_file() {
    let (mut refused, mut completed) = (0, 0);
    for error in ["EIO", "ENOSPC"] {
        // If every fsync of the spool fails, the job is not accepted.
        for call in ["fsync:when=2+", "fdatasync:when=1+"] {
            // The first fsync stores the agent's id, so the failures begin with the second.
            let run = run_with_failures(&format!("{call}:error={error}")).await;
            assert_eq!((run.accept_count, run.events.len()), (0, 0), "{call} {error}");
            assert!(run.refusal.is_some());
            refused += 1;
        }
        // The first fsync of the run fails; a new file replaces the first one.
        let run = run_with_failures(&format!("fdatasync:error={error}:when=1")).await;
        assert_eq!((run.accept_count, run.outcome().unwrap().0), (1, FinalState::Completed));
        assert_eq!(warnings(&run).len(), 1, "{:?}", run.events);
        assert!(warnings(&run)[0].contains("new file"));
        // A later fsync fails, at the end of the run.
        let run = run_with_failures(&format!("fdatasync:error={error}:when=2")).await;
        assert_eq!((run.accept_count, run.outcome().unwrap().0), (1, FinalState::Completed));
        completed += 2;
    }
    figure(&format!(
        "spool's fsync fails (fault S06): {refused} jobs refused, {completed} went on in a new file, false claims 0"
    ));
}

#[tokio::test]
async fn s07_interrupted_and_failing_writes_are_repeated_and_events_arrive_once() {
    let mut types_by_case = Vec::new();
    for inject in [
        "pwrite64:error=EINTR:when=1+2",
        "pwrite64:error=EIO:when=4",
        "pwrite64:error=ENOSPC:when=4..6",
        "fallocate:error=EOPNOTSUPP:when=1+",
        "fallocate:error=EINTR:when=1+2",
    ] {
        let run = run_with_failures(inject).await;
        assert_eq!(run.outcome().unwrap().0, FinalState::Completed, "{inject}");
        types_by_case.push(
            run.event_types()
                .into_iter()
                .filter(|kind| kind != "Warning" && kind != "warning")
                .collect::<Vec<_>>(),
        );
    }
    let first = types_by_case[0].clone();
    assert!(types_by_case.iter().all(|types| *types == first), "{types_by_case:#?}");
    figure(&format!(
        "writes interrupted or failed in {} ways (fault S07): {} events each, torn 0",
        types_by_case.len(),
        first.len()
    ));
}

#[tokio::test]
async fn output_survives_a_kill_of_the_agent_although_no_space_can_be_reserved() {
    let wrapper = strace_with_failures("fallocate:error=EOPNOTSUPP:when=1+");
    let options = StartOptions { wrapper: &wrapper, ..StartOptions::default() };
    let (mut relay, mut agent) = relay_and_agent_with(&serde_json::json!({}), &options).await;
    relay.start(&agent.shell_spec("demo#1", "echo hello; sleep 1000")).await;
    relay.until_run("demo#1", "prints", |run| run.log_text() == "hello\n").await;
    agent.kill();
    relay.drop_connection();
    agent.restart();
    relay.accept().await;
    assert_eq!(relay.until_finished("demo#1").await.log_text(), "hello\n");
}
