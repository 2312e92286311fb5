//! Sample records and events for tests. The records are built from the events.

use common::event::{
    Changes, Event, EventBody, FailureKind, FinalState, Isolation, JobError, PlanItem, Queued, Resources,
    StepOutcome, Usage,
};
use common::event_line::{EventLine, Source};
use common::job::{Runner, StepKind};
use common::record::{JobRecord, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Paint, RelayState, View};
use crate::registry::lease::PlatformStatus;
use crate::registry::queue::Queue;

/// Returns the time that is `second` seconds after the launch of the sample jobs.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_323_045 + second).unwrap()
}

/// Returns the view of a reader at the time `at(second)`, with a relay that is ready.
pub(crate) fn view(second: i64) -> View {
    let status = PlatformStatus::Ready {
        agent: "a1".into(),
        version: "0.1.0".into(),
        max_jobs: 4,
        codex: None,
        codex_problem: None,
        agents: 1,
        vitals: None,
        shortage: None,
    };
    View {
        now: at(second),
        zone: TimeZone::UTC,
        relay: RelayState::Up(status),
        queue: Queue { busy_count: 4, ..Queue::default() },
        columns: None,
        delivery: None,
        paint: Paint::new(false),
    }
}

/// Returns a record with a name, a state, and defaults.
pub(crate) fn minimal_record(job: &str, state: State) -> JobRecord {
    let queued = Queued {
        workspace: "/w".into(),
        prompt_summary: "x".into(),
        runner: Runner::Shell,
        engine: "local".into(),
        ..Queued::default()
    };
    let mut record = JobRecord::from_queued(job.parse().unwrap(), Timestamp::UNIX_EPOCH, &queued);
    record.state = state;
    record
}

fn event_lines(events: Vec<(i64, EventBody)>) -> Vec<EventLine> {
    let line = |(i, (second, body)): (usize, (i64, EventBody))| EventLine {
        id: i as u64 + 1,
        job: "abe#1".parse().unwrap(),
        epoch: u32::from(i > 0),
        seq: i.max(1) as u64,
        source: if i > 0 { Source::Agent } else { Source::Relay },
        event: Some(Event { at: at(second), body }),
    };
    events.into_iter().enumerate().map(line).collect()
}

fn record_of(events: Vec<(i64, EventBody)>) -> JobRecord {
    JobRecord::rebuild(&event_lines(events)).unwrap()
}

fn queued_events() -> Vec<(i64, EventBody)> {
    vec![(
        0,
        EventBody::Queued(Box::new(Queued {
            workspace: "/home/u/work/abe".into(),
            prompt_summary: "fix the tests".into(),
            runner: Runner::Codex,
            engine: "docker".into(),
            log_path: "/r/abe.1.log".into(),
            events_path: "/r/abe.1.events.jsonl".into(),
            ..Queued::default()
        })),
    )]
}

fn starting_events() -> Vec<(i64, EventBody)> {
    let mut events = queued_events();
    let log = Some(".codex-worker/log.txt".to_owned());
    events.push((
        1,
        EventBody::Accepted { agent: "a1".into(), isolation: Isolation::Container, workspace_log: log },
    ));
    events.push((1, step_started(1, StepKind::Start, "codex")));
    events
}

fn step_started(n: u32, kind: StepKind, title: &str) -> EventBody {
    EventBody::StepStarted {
        n,
        kind,
        title: title.into(),
        limit_ms: Some(kind.default_limit_ms()),
        parent: None,
    }
}

fn step_finished(n: u32, outcome: StepOutcome, exit_code: Option<i32>, elapsed_ms: u64) -> EventBody {
    EventBody::StepFinished { n, outcome, exit_code, elapsed_ms, resources: None }
}

fn sub_step_started(parent: u32, n: u32, kind: StepKind, title: &str) -> EventBody {
    match step_started(n, kind, title) {
        EventBody::StepStarted { n, kind, title, limit_ms, .. } => {
            EventBody::StepStarted { n, kind, title, limit_ms, parent: Some(parent) }
        }
        other => other,
    }
}

fn step_finished_with(n: u32, outcome: StepOutcome, elapsed_ms: u64, cpu_ms: u64, mib: u64) -> EventBody {
    let resources = Some(Resources { cpu_ms, peak_memory: mib * 1024 * 1024 });
    EventBody::StepFinished { n, outcome, exit_code: None, elapsed_ms, resources }
}

fn running_events() -> Vec<(i64, EventBody)> {
    let mut events = starting_events();
    let item = |text: &str, completed| PlanItem { text: text.into(), completed };
    events.extend([
        (2, EventBody::Started { pid: 7, thread_id: Some("0199-t".into()) }),
        (2, step_finished(1, StepOutcome::Ok, None, 900)),
        (2, EventBody::Plan { items: vec![item("install", true), item("fix", false)] }),
        (3, step_started(2, StepKind::Clone, "git clone https://example.org/abe")),
        (8, step_finished(2, StepOutcome::Ok, Some(0), 5000)),
        (9, EventBody::Message { text: "The clone is there.\n\nNow the packages.".into() }),
        (10, step_started(3, StepKind::Install, "npm ci")),
    ]);
    events
}

fn ended_events(state: FinalState, error: Option<JobError>, exit_code: Option<i32>) -> Vec<(i64, EventBody)> {
    let mut events = running_events();
    let outcome = if error.is_some() { StepOutcome::Killed } else { StepOutcome::Ok };
    events.extend([
        (610, step_finished(3, outcome, None, 600_000)),
        (610, EventBody::Usage(Usage { input_tokens: 1200, output_tokens: 50, ..Usage::default() })),
        (611, EventBody::Cleanup { killed: 2, survivors: 0 }),
        (
            611,
            EventBody::Finished {
                state,
                error,
                exit_code,
                changes: Some(Changes { files: 3, insertions: 10, deletions: 2 }),
            },
        ),
    ]);
    events
}

/// Returns the events of a job with an install that is hidden in a Makefile and stalls.
fn supervised_events() -> Vec<(i64, EventBody)> {
    let mut events = starting_events();
    let evidence = "node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED";
    events.extend([
        (2, EventBody::Started { pid: 7, thread_id: Some("0199-t".into()) }),
        (2, step_finished(1, StepOutcome::Ok, None, 900)),
        (2, step_started(2, StepKind::Model, "waiting for the model")),
        (12, step_finished(2, StepOutcome::Ok, None, 10_000)),
        (12, step_started(3, StepKind::Build, "make setup")),
        (13, sub_step_started(3, 4, StepKind::Fetch, "curl -fsSL https://example.org/tool")),
        (18, step_finished_with(4, StepOutcome::Unknown, 5000, 300, 12)),
        (20, sub_step_started(3, 5, StepKind::Install, "npm ci")),
        (100, EventBody::Extended { n: Some(5), limit_ms: 1_200_000 }),
        (150, EventBody::Stalled { n: 5, evidence: evidence.into() }),
    ]);
    events
}

/// Returns the events of a job with an install that stalls, up to the stall.
pub(crate) fn supervised_job_events() -> Vec<EventLine> {
    event_lines(supervised_events())
}

pub(crate) fn stalling_record() -> JobRecord {
    record_of(supervised_events())
}

/// Returns the events of a job with an install that stalls, up to the end of the failed job.
pub(crate) fn stalled_job_events() -> Vec<EventLine> {
    let mut events = supervised_events();
    let message = "step 5 (install: npm ci) made no progress for 2m: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, \
                   waiting on TCP 10.0.0.1:443 ESTABLISHED";
    events.extend([
        (150, EventBody::Stopping { reason: "step 5 stalled".into() }),
        (152, step_finished_with(5, StepOutcome::Killed, 132_000, 12_345, 240)),
        (152, step_finished_with(3, StepOutcome::Killed, 140_000, 12_800, 250)),
        (152, EventBody::Cleanup { killed: 3, survivors: 0 }),
        (
            152,
            EventBody::Finished {
                state: FinalState::Failed,
                error: Some(JobError { kind: FailureKind::Stalled, message: message.into(), step: Some(5) }),
                exit_code: None,
                changes: None,
            },
        ),
    ]);
    event_lines(events)
}

/// Returns the events of a job whose check failed, with one interrupted step.
pub(crate) fn failed_check_events() -> Vec<EventLine> {
    let mut events = starting_events();
    let message =
        "check 'cargo test' ended with exit code 101: assertion `left == right` failed / left: 1 / right: 2";
    events.extend([
        (2, EventBody::Started { pid: 7, thread_id: None }),
        (2, step_finished(1, StepOutcome::Ok, None, 900)),
        (3, step_started(2, StepKind::Fetch, "curl https://example.org/big")),
        (63, EventBody::Interrupted { n: 2, reason: "step 2 (fetch: curl) ran over its limit of 1m".into() }),
        (63, step_finished_with(2, StepOutcome::Killed, 60_000, 100, 9)),
        (64, step_started(3, StepKind::Check, "cargo test")),
        (
            94,
            EventBody::StepFinished {
                n: 3,
                outcome: StepOutcome::Failed,
                exit_code: Some(101),
                elapsed_ms: 30_000,
                resources: Some(Resources { cpu_ms: 55_000, peak_memory: 900 * 1024 * 1024 }),
            },
        ),
        (
            95,
            EventBody::Finished {
                state: FinalState::Failed,
                error: Some(JobError {
                    kind: FailureKind::CheckFailed,
                    message: message.into(),
                    step: Some(3),
                }),
                exit_code: Some(0),
                changes: None,
            },
        ),
    ]);
    event_lines(events)
}

fn step_timeout_error() -> JobError {
    JobError {
        kind: FailureKind::StepTimeout,
        message: "install `npm ci` ran for 10m, its limit: raise it with --step-timeout install=20m".into(),
        step: Some(3),
    }
}

/// Returns the events of a job that failed.
pub(crate) fn failed_job_events() -> Vec<EventLine> {
    event_lines(ended_events(FinalState::Failed, Some(step_timeout_error()), None))
}

pub(crate) fn queued_record() -> JobRecord {
    record_of(queued_events())
}

pub(crate) fn starting_record() -> JobRecord {
    record_of(starting_events())
}

pub(crate) fn running_record() -> JobRecord {
    record_of(running_events())
}

pub(crate) fn lost_link_record() -> JobRecord {
    let mut events = running_events();
    events.push((33, EventBody::LinkLost { reason: "silent for 15 s".into() }));
    record_of(events)
}

pub(crate) fn completed_record() -> JobRecord {
    record_of(ended_events(FinalState::Completed, None, Some(0)))
}

/// Returns the record of a job that completed with warnings.
pub(crate) fn record_with_warnings() -> JobRecord {
    let mut events = ended_events(FinalState::Completed, None, Some(0));
    let end = events.len() - 1;
    let warnings = [
        "codex retries (1/5: 503)",
        "the MCP server docs did not start",
        "no progress: the same step failed 5 times: make",
        "3 lines of codex 0.180.0 not understood",
        "no progress: the same step failed 10 times: make",
        "still running when the worker's turn ended, and ended with it: cargo build",
    ];
    let warning = |message: &str| (600, EventBody::Warning { message: message.into() });
    events.splice(end..end, warnings.map(warning));
    record_of(events)
}

pub(crate) fn failed_record() -> JobRecord {
    JobRecord::rebuild(&failed_job_events()).unwrap()
}

pub(crate) fn cancelled_record() -> JobRecord {
    record_of(ended_events(FinalState::Cancelled, None, None))
}

fn hostile_text() -> String {
    "\u{1b}]52;c;QQ==\u{7}\u{202e}red\r\nline\n".repeat(50)
}

fn hostile_events() -> Vec<(i64, EventBody)> {
    let hostile_text = hostile_text();
    let mut events = running_events();
    let item = |n: u32| PlanItem { text: format!("{n} {hostile_text}"), completed: false };
    events.push((20, EventBody::Plan { items: (0..100).map(item).collect() }));
    for n in 4..100 {
        // Each step is a sub-step of the step before.
        events.push((20, sub_step_started(n - 1, n, StepKind::Command, &hostile_text)));
        events.push((20, step_finished_with(n, StepOutcome::Failed, 5, u64::MAX, 1 << 40)));
    }
    events.push((21, EventBody::Message { text: hostile_text.clone() }));
    events.push((21, EventBody::Warning { message: hostile_text.clone() }));
    events.push((21, EventBody::Usage(Usage::default())));
    events.push((22, sub_step_started(3, 101, StepKind::Command, &hostile_text)));
    events.push((22, sub_step_started(101, 102, StepKind::Command, &hostile_text)));
    events
}

/// Returns a log in which every text is too long and contains terminal escapes, with a final event if `has_ended`.
pub(crate) fn hostile_job_events(has_ended: bool) -> Vec<EventLine> {
    let (mut events, hostile_text) = (hostile_events(), hostile_text());
    for n in 0..40 {
        events.push((22 + n, EventBody::Stalled { n: 101, evidence: format!("TCP {hostile_text}") }));
    }
    for (n, kind) in (103..).zip(StepKind::ALL.iter().copied()) {
        events.push((100 + i64::from(n), step_started(n, kind, &hostile_text)));
        events.push((110 + i64::from(n), step_finished(n, StepOutcome::Failed, Some(1), 10_000)));
    }
    if has_ended {
        let message = format!(
            "check '{hostile_text}' ended with exit code 1: {}",
            [hostile_text.as_str(); 9].join(" / ")
        );
        let error = Some(JobError { kind: FailureKind::CheckFailed, message, step: Some(101) });
        events.push((
            500,
            EventBody::Finished { state: FinalState::Failed, error, exit_code: None, changes: None },
        ));
    }
    event_lines(events)
}

/// Returns a record in which every text is too long and contains terminal escapes.
pub(crate) fn hostile_record() -> JobRecord {
    let (events, hostile_text) = (hostile_events(), hostile_text());
    let mut record = record_of(events);
    for text in [&mut record.workspace, &mut record.prompt_summary, &mut record.log_path] {
        text.clone_from(&hostile_text);
    }
    record.thread_id = Some(hostile_text.clone());
    record.error = Some(JobError { kind: FailureKind::CodexError, message: hostile_text, step: Some(1) });
    record.exit_code = Some(1);
    record.changes = Some(Changes::default());
    record.cleanup = Some(common::record::Cleanup { killed: 1, survivors: 1 });
    record
}
