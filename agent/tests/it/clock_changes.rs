//! Limits under irregular time: clocks that jump, machines that are suspended, and machines that are busy.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they report")]

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms};
use crate::support::{Agent, Relay, below, connected, eventually};
use common::event::{Event, EventBody, FailureKind, FinalState, Queued, StepOutcome};
use common::event_line::{EventLine, Source};
use common::job::StepKind;
use common::record::{JobRecord, State};
use common::wire::RelayFrame;
use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};

/// A command line of two seconds, in steps of a tenth.
const TWO_SECONDS: &str = "i=0; while [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); done; echo done";

/// Folds the events of a real job into a record, with the time of day of each moved by `jump`.
fn moved(events: &[Event], jump: impl Fn(usize) -> SignedDuration) -> JobRecord {
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

/// The agent's clocks are monotonic: no time of day is part of a limit (`clock.rs` and `steps` take durations only), so
/// only the record has to tolerate a clock that jumps.
#[tokio::test]
async fn t01_a_clock_that_jumps_by_a_year_changes_no_order_no_state_and_no_length() {
    let (mut relay, agent) = connected().await;
    let mut spec = agent.shell("demo#1", "sleep 0.2; exit 3");
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
    let told = jumps.map(|jump| {
        let record = moved(&events, |n| jump(n, year));
        assert_eq!(record.state, State::Failed);
        record.to_bytes().unwrap();
        let steps = record.steps.iter().map(|step| (step.n, step.kind, step.outcome, step.elapsed_ms));
        let steps: Vec<_> = steps.collect();
        (record.error.clone(), record.exit_code, steps)
    });
    for other in &told[1..] {
        similar_asserts::assert_eq!(&told[0], other);
    }
    figure("T01 wall clock moved by a year, there and back: order, states and lengths equal in 3 of 3");
}

/// Starts four jobs with two seconds of work and a limit of five: a second of a pause counts, and a machine may be
/// busy.
async fn four_jobs(relay: &mut Relay, agent: &Agent) -> [String; 4] {
    let jobs = [1, 2, 3, 4].map(|n| format!("demo#{n}"));
    for job in &jobs {
        let mut spec = agent.shell(job, TWO_SECONDS);
        spec.limits.steps.insert(StepKind::Command, 5000);
        relay.start(&spec).await;
    }
    let started =
        |relay: &mut Relay| relay.runs.len() == 4 && relay.runs.values().all(|run| run.started().is_some());
    relay.until("all run", started).await;
    jobs
}

fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        // A process that has ended in the meantime needs no signal.
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
    }
}

async fn stands_still(whole: bool) {
    let (mut relay, agent) = connected().await;
    let jobs = four_jobs(&mut relay, &agent).await;
    let pids = if whole { below(agent.child.id()) } else { vec![agent.child.id()] };
    signal(&pids, Signal::STOP);
    let begun = Instant::now();
    eventually("six seconds have passed", || begun.elapsed() > Duration::from_secs(6)).await;
    signal(&pids, Signal::CONT);
    for job in &jobs {
        let run = relay.until_finished(job).await;
        assert_eq!(run.finished(), Some((FinalState::Completed, None, Some(0))), "{:#?}", run.events);
    }
}

#[tokio::test]
async fn t02_a_pause_of_everything_burns_no_limit() {
    stands_still(true).await;
    figure("T02 everything stopped for 6 s, limit 5 s, 2 s of work: false kills 0 of 4");
}

#[tokio::test]
async fn t02_a_pause_of_the_agent_alone_burns_no_limit() {
    stands_still(false).await;
    figure("T02 agent stopped for 6 s, limit 5 s, 2 s of work: false kills 0 of 4");
}

/// A process that uses all the CPU time it can get.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn t03_on_a_machine_that_is_busy_the_heart_beats_and_deadlines_are_kept() {
    let (mut relay, agent) = connected().await;
    let busy: Vec<Busy> = (0..32)
        .map(|_| Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()))
        .collect();
    let mut spec = agent.shell("demo#1", "sleep 600");
    spec.limits.steps.insert(StepKind::Command, 2000);
    relay.start(&spec).await;
    let id = "demo#1".parse().unwrap();
    let (mut sent, mut pinged, mut slowest) = (0, Instant::now(), Duration::ZERO);
    while relay.runs.get(&id).is_none_or(|run| run.finished().is_none()) {
        if relay.pongs == sent {
            slowest = slowest.max(pinged.elapsed());
            pinged = Instant::now();
            sent += 1;
            relay.send(&RelayFrame::Ping { nonce: sent }).await;
        }
        let before = relay.pongs;
        relay
            .until("an answer, or the end", |relay| {
                relay.pongs > before || relay.runs.get(&id).is_some_and(|run| run.finished().is_some())
            })
            .await;
    }
    drop(busy);
    let run = relay.demo();
    let step = run.events.iter().find_map(|event| match event.body {
        EventBody::StepFinished { outcome: StepOutcome::Killed, elapsed_ms, .. } => Some(elapsed_ms),
        _ => None,
    });
    let late = Duration::from_millis(step.unwrap().saturating_sub(2000));
    assert_eq!(run.finished().unwrap().1.unwrap().kind, FailureKind::StepTimeout);
    assert!(late <= Duration::from_secs(1) && slowest <= Duration::from_secs(5), "{late:?} {slowest:?}");
    assert!(sent > 1, "{sent}");
    let (late, slowest) = (ms(late), ms(slowest));
    figure(&format!(
        "T03 32 busy loops: deadline and end {late} late, slowest of {sent} heartbeats {slowest}"
    ));
}

#[tokio::test]
async fn t04_a_limit_of_nothing_is_refused_and_one_of_everything_never_comes() {
    let (mut relay, agent) = connected().await;
    let mut none = agent.shell("none#1", "sleep 600");
    none.limits.steps.insert(StepKind::Command, 0);
    relay.start(&none).await;
    relay.until_refused("none#1").await;
    let mut most = agent.shell("most#1", "sleep 0.2");
    most.limits.steps.insert(StepKind::Command, u64::MAX);
    (most.limits.job_ms, most.limits.grace_ms, most.limits.stall_ms) = (u64::MAX, u64::MAX, u64::MAX);
    relay.start(&most).await;
    relay.until_completed("most#1").await;
    relay.start(&agent.shell("most#2", "sleep 600")).await;
    relay.until_run("most#2", "runs", |run| run.started().is_some()).await;
    relay.cancel("most#2", u64::MAX).await;
    assert_eq!(relay.until_finished("most#2").await.finished().unwrap().0, FinalState::Cancelled);
    figure("T04 limits of 0 and of u64::MAX: refused; never reached, nor does such a grace hang the end");
}
