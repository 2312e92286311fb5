//! Tests of limits when wall clocks jump, when processes are stopped for some time, and on a busy machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms};
use crate::support::{Agent, MAX_PROMPT_END, Relay, eventually, process_tree, relay_and_agent};
use common::event::{Event, EventBody, FailureKind, FinalState, Queued, StepOutcome};
use common::event_line::{EventLine, Source};
use common::job::StepKind;
use common::record::{JobRecord, State};
use common::wire::{self, RelayFrame};
use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};

/// A command line that takes two seconds, in sleeps of 0.1 s.
const TWO_SECONDS: &str = "i=0; while [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); done; echo done";

/// Folds the events of a job into a record, after adding `jump(n)` to the time of each event.
fn record_with_jumps(events: &[Event], jump: impl Fn(usize) -> SignedDuration) -> JobRecord {
    let mut record = JobRecord::from_queued("demo#1".parse().unwrap(), Timestamp::now(), &Queued::default());
    for (n, event) in events.iter().enumerate() {
        record.apply_line(&EventLine {
            id: n as u64 + 2,
            job: record.job.clone(),
            epoch: 1,
            seq: n as u64 + 1,
            source: Source::Agent,
            event: Some(Event { at: event.at + jump(n), body: event.body.clone() }),
        });
    }
    record
}

/// The agent measures limits with a monotonic clock, so only the record has to tolerate a wall clock that jumps.
#[tokio::test]
async fn t01_a_clock_that_jumps_by_a_year_changes_no_state_and_no_duration() {
    let (mut relay, agent) = relay_and_agent().await;
    let mut spec = agent.shell_spec("demo#1", "sleep 0.2; exit 3");
    spec.setup = vec!["true".into()];
    relay.start(&spec).await;
    let events = relay.until_finished("demo#1").await.events.clone();
    let year = SignedDuration::from_hours(365 * 24);
    let jumps: [fn(usize, SignedDuration) -> SignedDuration; 4] = [
        |_, _| SignedDuration::ZERO,
        |n, year| if n > 3 { year } else { SignedDuration::ZERO },
        |n, year| if n > 3 { -year } else { SignedDuration::ZERO },
        |n, year| if n % 2 == 0 { year } else { -year },
    ];
    let results = jumps.map(|jump| {
        let record = record_with_jumps(&events, |n| jump(n, year));
        assert_eq!(record.state, State::Failed);
        record.to_bytes().unwrap();
        let steps = record.steps.iter().map(|step| (step.n, step.kind, step.outcome, step.elapsed_ms));
        let steps: Vec<_> = steps.collect();
        (record.error.clone(), record.exit_code, steps)
    });
    for result in &results[1..] {
        similar_asserts::assert_eq!(&results[0], result);
    }
    figure(
        "wall clock moved by a year, there and back (fault T01): order, states and lengths equal in 3 of 3",
    );
}

/// Starts four jobs that take two seconds, with a higher limit: the machine may be busy.
async fn start_four_jobs(relay: &mut Relay, agent: &Agent, limit_ms: u64) -> [String; 4] {
    let jobs = [1, 2, 3, 4].map(|n| format!("demo#{n}"));
    for job in &jobs {
        let mut spec = agent.shell_spec(job, TWO_SECONDS);
        spec.limits.steps.insert(StepKind::Command, limit_ms);
        relay.start(&spec).await;
    }
    let all_run =
        |relay: &mut Relay| relay.runs.len() == 4 && relay.runs.values().all(|run| run.pid().is_some());
    relay.until("all jobs run", all_run).await;
    jobs
}

fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        // A process that has ended in the meantime needs no signal.
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
    }
}

/// Stops the agent, or its whole process tree, for so long that jobs would be over their limit if the pause counted.
/// Checks that they complete.
async fn check_jobs_survive_pause(with_descendants: bool, limit_ms: u64) {
    let (mut relay, agent) = relay_and_agent().await;
    let jobs = start_four_jobs(&mut relay, &agent, limit_ms).await;
    let pids = if with_descendants { process_tree(agent.child.id()) } else { vec![agent.child.id()] };
    signal(&pids, Signal::STOP);
    let begun = Instant::now();
    eventually("six seconds have passed", || begun.elapsed() > Duration::from_secs(6)).await;
    signal(&pids, Signal::CONT);
    for job in &jobs {
        let run = relay.until_finished(job).await;
        assert_eq!(run.outcome(), Some((FinalState::Completed, None, Some(0))), "{:#?}", run.events);
    }
}

#[tokio::test]
async fn t02_a_pause_of_the_agent_and_its_jobs_counts_for_no_limit() {
    check_jobs_survive_pause(true, 7000).await;
    figure("everything frozen for 6 s, limit 7 s, 2 s of work (fault T02): false kills 0 of 4");
}

#[tokio::test]
async fn t02_a_pause_of_the_agent_alone_counts_for_no_limit() {
    // The jobs go on while the agent is stopped.
    check_jobs_survive_pause(false, 5000).await;
    figure("agent frozen for 6 s, limit 5 s, 2 s of work (fault T02): false kills 0 of 4");
}

/// A process that uses as much CPU time as it can get. Killed when dropped.
struct BusyLoop(Child);

impl Drop for BusyLoop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn t03_on_a_busy_machine_pings_are_answered_and_deadlines_are_kept() {
    let (mut relay, agent) = relay_and_agent().await;
    let busy_loops: Vec<BusyLoop> = (0..8)
        .map(|_| BusyLoop(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()))
        .collect();
    let mut spec = agent.shell_spec("demo#1", "sleep 600");
    spec.limits.steps.insert(StepKind::Command, 2000);
    relay.start(&spec).await;
    let id = "demo#1".parse().unwrap();
    let (mut ping_count, mut pinged_at, mut slowest) = (0, Instant::now(), Duration::ZERO);
    while relay.runs.get(&id).is_none_or(|run| run.outcome().is_none()) {
        if relay.pongs == ping_count {
            slowest = slowest.max(pinged_at.elapsed());
            pinged_at = Instant::now();
            ping_count += 1;
            relay.send(&RelayFrame::Ping { nonce: ping_count }).await;
        }
        let pongs_before = relay.pongs;
        relay
            .until("an answer, or the end", |relay| {
                relay.pongs > pongs_before || relay.runs.get(&id).is_some_and(|run| run.outcome().is_some())
            })
            .await;
    }
    drop(busy_loops);
    let run = relay.demo();
    let step_ms = run.events.iter().find_map(|event| match event.body {
        EventBody::StepFinished { outcome: StepOutcome::Killed, elapsed_ms, .. } => Some(elapsed_ms),
        _ => None,
    });
    let late = Duration::from_millis(step_ms.unwrap().saturating_sub(2000));
    assert_eq!(run.outcome().unwrap().1.unwrap().kind, FailureKind::StepTimeout);
    assert!(late <= MAX_PROMPT_END && slowest <= wire::DEAD_AFTER, "{late:?} {slowest:?}");
    assert!(ping_count > 1, "{ping_count}");
    let (late, slowest) = (ms(late), ms(slowest));
    figure(&format!(
        "8 busy loops (fault T03): job ended {late} after its deadline, slowest of {ping_count} heartbeats {slowest}"
    ));
}

#[tokio::test]
async fn t04_a_limit_of_zero_is_refused_and_the_maximum_is_never_reached() {
    let (mut relay, agent) = relay_and_agent().await;
    let mut zero = agent.shell_spec("none#1", "sleep 600");
    zero.limits.steps.insert(StepKind::Command, 0);
    relay.start(&zero).await;
    relay.until_refused("none#1").await;
    let mut maximum = agent.shell_spec("most#1", "sleep 0.2");
    let limits = &mut maximum.limits;
    limits.steps.insert(StepKind::Command, u64::MAX);
    (limits.job_ms, limits.grace_ms, limits.stall_ms) = (u64::MAX, u64::MAX, u64::MAX);
    relay.start(&maximum).await;
    relay.until_completed("most#1").await;
    relay.start(&agent.shell_spec("most#2", "sleep 600")).await;
    relay.until_run("most#2", "runs", |run| run.pid().is_some()).await;
    relay.cancel("most#2", u64::MAX).await;
    assert_eq!(relay.until_finished("most#2").await.outcome().unwrap().0, FinalState::Cancelled);
    figure(
        "limits of 0 and of u64::MAX (fault T04): refused; never reached; such a grace period delays no cancel",
    );
}
