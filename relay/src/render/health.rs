//! Health of a job, with advice, in one sentence. Pure: the sentence depends on record, time and lease only.
//!
//! ```text
//!  queued ──► healthy ──half of the limit──► slow ──limit──► over ──► stopping ──► ended
//!                │ no progress seen ► quiet        agent or relay silent ► stale
//! ```
//!
//! The reader is often a language model: `healthy` requires no action, and every other word comes with an explanation.
//! The sentence states only facts that follow from the record, the time and the lease.

use std::fmt;

use clap::builder::styling::AnsiColor;
use common::duration;
use common::event::FailureKind;
use common::job::StepKind;
use common::record::{JobRecord, Link, State};
use common::result::JobResult;
use common::text_format;
use common::warnings::WAITS_FOR_NETWORK;
use jiff::Timestamp;

use super::hold_text::hold_reason;
use super::{Paint, RelayState, View, queue, steps};
use crate::failure_text::failure_kind;
use crate::registry::lease::PlatformStatus;
use crate::times::{format_ago, format_remaining, millis_between};

/// Maximum length of the description of a stalled step's wait, in bytes.
const MAX_WAIT_REASON_BYTES: usize = 80;
/// Maximum length of the reason why the platform failed, in bytes.
const MAX_DETAIL_BYTES: usize = 160;

/// First word of the sentence that describes a job's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum HealthWord {
    /// The job waits for a slot or for a platform.
    Queued,
    /// The job runs as expected.
    Healthy,
    /// The running step has used more than half of its limit.
    Slow,
    /// The running step made no progress at the last check.
    Quiet,
    /// The running step is over its limit.
    Over,
    /// There is no current information about the job.
    Stale,
    /// The job pauses until the account can use the model again.
    Held,
    /// The job is being ended.
    Stopping,
    Ended,
}

impl HealthWord {
    /// Returns the word that begins the sentence.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Paint {
    /// Styles text about a job of this health: yellow and red draw attention.
    pub fn job_health(self, word: HealthWord, text: &str) -> String {
        let color = match word {
            HealthWord::Healthy => AnsiColor::Green,
            HealthWord::Slow | HealthWord::Quiet | HealthWord::Stale | HealthWord::Stopping => {
                AnsiColor::Yellow
            }
            HealthWord::Over => AnsiColor::Red,
            HealthWord::Queued | HealthWord::Held | HealthWord::Ended => return text.to_owned(),
        };
        self.styled(color.on_default(), text)
    }

    /// Styles text about a failed job or a job with poor health, which needs attention.
    pub fn health_or_state(self, record: &JobRecord, word: HealthWord, text: &str) -> String {
        if word == HealthWord::Ended { self.state(record.state, text) } else { self.job_health(word, text) }
    }
}

/// Health of a job: a word with an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub word: HealthWord,
    /// Explanation and advice: one line without control characters.
    pub explanation: String,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word.as_str(), self.explanation)
    }
}

/// Returns the health of a job at `view.now`.
pub fn health(record: &JobRecord, view: &View) -> Health {
    let build = |word, rest: String| Health { word, explanation: text_format::to_printable(&rest) };
    if record.state.is_final() {
        return build(HealthWord::Ended, ended_health(record, view));
    }
    if record.state == State::Queued {
        return build(HealthWord::Queued, queue::queue_reason_of(record, view));
    }
    let last_event = format_ago(record.last_event_at, view.now);
    if view.relay == RelayState::Down {
        return build(
            HealthWord::Stale,
            format!(
                "no relay is running; last event {last_event}; the work may go on; `relay up` starts a relay"
            ),
        );
    }
    if let RelayState::Silent { pid, for_ms } = view.relay {
        let silence_text = queue::silent_relay_message(pid, for_ms);
        return build(
            HealthWord::Stale,
            format!("last event {last_event}; the work may go on; {silence_text}"),
        );
    }
    if record.link == Some(Link::Lost) {
        let reason = match &view.relay {
            RelayState::Up(PlatformStatus::Failed { detail }) => {
                text_format::one_line(detail, MAX_DETAIL_BYTES)
            }
            _ => "the work goes on, and the agent reconnects by itself".to_owned(),
        };
        return build(
            HealthWord::Stale,
            format!("the agent is disconnected; last event {last_event}; {reason}"),
        );
    }
    if record.state == State::Stopping {
        return build(HealthWord::Stopping, "its processes are being ended".to_owned());
    }
    if let Some(hold) = &record.held {
        let reason = hold_reason(hold, view);
        return build(
            HealthWord::Held,
            match hold.kind {
                FailureKind::Auth => reason,
                _ => format!("{reason}; it goes on by itself in its thread"),
            },
        );
    }
    step_health(record, view)
}

/// Returns the next action for a job that has ended, usually a command.
pub fn next_action(record: &JobRecord) -> String {
    let job = &record.job;
    let is_resumable = record.has_codex_thread();
    let warnings_hint = if record.warnings.count > 0 { "check the warnings, then " } else { "" };
    match (record.state, record.error.as_ref().map(|error| error.kind)) {
        (State::Failed, Some(FailureKind::Refused)) => {
            format!("fix what the error names, then run `relay retry {job}`")
        }
        (State::Failed, _) => format!("`relay explain {job}`"),
        (State::Completed, _) if record.result.as_ref().is_some_and(JobResult::is_open) => {
            format!(
                "{warnings_hint}`relay diff {job}`, then `relay merge {job}`, `relay apply {job}` or `relay discard {job}`"
            )
        }
        (State::Completed, _) if is_resumable => format!("{warnings_hint}`relay resume {job} \"…\"`"),
        (_, _) if is_resumable => format!("`relay resume {job} \"…\"`"),
        (State::Completed, _) => format!("{warnings_hint}`relay logs {job}`"),
        (_, _) => format!("`relay retry {job}`"),
    }
}

fn ended_health(record: &JobRecord, view: &View) -> String {
    let when = record.finished_at.map(|at| format!(" {}", format_ago(at, view.now))).unwrap_or_default();
    let kind = match failure_kind(record) {
        kind if kind.is_empty() => kind,
        kind => format!(" ({kind})"),
    };
    format!("{}{when}{kind}; next: {}", record.describe_outcome(), next_action(record))
}

/// Running step, or a step that encloses it, with its limit.
#[derive(Debug, Clone, Copy)]
pub struct RunningStep {
    /// Number of the step.
    pub number: u32,
    pub kind: StepKind,
    /// Run time so far, in milliseconds.
    pub elapsed_ms: u64,
    /// Limit of the step, in milliseconds.
    pub limit_ms: u64,
}

/// Returns the running or enclosing step whose limit ends first; `None` without a limit.
pub fn step_with_nearest_limit(record: &JobRecord, now: Timestamp) -> Option<RunningStep> {
    let step = record.step.as_ref()?;
    let enclosing = steps::enclosing_steps(record, step.n);
    let all = enclosing.iter().map(|step| (step.n, step.kind, step.started_at, step.limit_ms));
    let all = all.chain([(step.n, step.kind, step.started_at, step.limit_ms)]);
    let running = all.filter_map(|(n, kind, started_at, limit)| {
        Some(RunningStep { number: n, kind, elapsed_ms: millis_between(started_at, now), limit_ms: limit? })
    });
    running.min_by_key(|step| i128::from(step.limit_ms) - i128::from(step.elapsed_ms))
}

/// Returns the health of a job whose agent is connected.
fn step_health(record: &JobRecord, view: &View) -> Health {
    let build = |word, rest: String| Health { word, explanation: text_format::to_printable(&rest) };
    let Some(current_step) = &record.step else {
        let state_text = if record.state == State::Starting { "starting" } else { "between steps" };
        return build(HealthWord::Healthy, state_text.to_owned());
    };
    let stall = stall_evidence(record);
    let Some(nearest_limit_step) = step_with_nearest_limit(record, view.now) else {
        let elapsed = duration::format_duration(millis_between(current_step.started_at, view.now));
        let activity_text = activity(current_step.kind);
        return match stall {
            Some(stall_text) => {
                build(HealthWord::Quiet, format!("{activity_text} {elapsed}; {stall_text}; no limit"))
            }
            None => build(HealthWord::Healthy, format!("{activity_text} {elapsed}, no limit")),
        };
    };
    let (elapsed, limit) = (
        duration::format_duration(nearest_limit_step.elapsed_ms),
        duration::format_limit(nearest_limit_step.limit_ms),
    );
    let (activity_text, job) = (activity(nearest_limit_step.kind), &record.job);
    let Some(remaining) = nearest_limit_step.limit_ms.checked_sub(nearest_limit_step.elapsed_ms) else {
        return match nearest_limit_step.kind {
            // When a slow model shows activity, its limit restarts without an event.
            StepKind::Model => build(
                HealthWord::Healthy,
                format!(
                    "{activity_text} {elapsed}; it is answering; it is ended after {limit} without activity"
                ),
            ),
            _ => build(
                HealthWord::Over,
                format!(
                    "{activity_text} {elapsed}, its limit was {limit}: it is being ended (or its machine slept)"
                ),
            ),
        };
    };
    let remaining = format_remaining(remaining);
    if nearest_limit_step.kind == StepKind::Model
        && record.warning.as_deref().is_some_and(|warning| warning.starts_with(WAITS_FOR_NETWORK))
    {
        let rest = format!(
            "the worker waits for the network {elapsed} of {limit}: its model can't be reached; it is ended within {remaining}"
        );
        return build(HealthWord::Quiet, rest);
    }
    let extend_hint = || match nearest_limit_step.kind {
        StepKind::Model => String::new(),
        _ if nearest_limit_step.number == current_step.n => {
            format!("; `relay extend {job} --step 10m` gives it more time")
        }
        _ => String::new(),
    };
    match stall {
        Some(stall_text) => build(
            HealthWord::Quiet,
            format!(
                "{activity_text} {elapsed} of {limit}; {stall_text}; it is ended within {remaining}{}",
                extend_hint()
            ),
        ),
        None if nearest_limit_step.elapsed_ms > nearest_limit_step.limit_ms / 2 => build(
            HealthWord::Slow,
            format!(
                "{activity_text} {elapsed} of {limit}; it ends or is ended within {remaining}{}",
                extend_hint()
            ),
        ),
        None => build(
            HealthWord::Healthy,
            format!("{activity_text} {elapsed} of {limit}; next event expected within {remaining}"),
        ),
    }
}

/// Returns the activity of a step of this kind, for the sentence.
fn activity(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Model => "waiting for the model",
        kind => kind.as_str(),
    }
}

/// Returns the evidence of the newest warning if it reports that the running step or an enclosing step makes no
/// progress. Progress since then is unknown.
fn stall_evidence(record: &JobRecord) -> Option<String> {
    let step = record.step.as_ref()?;
    let (n, evidence) = steps::stalled_step(record)?;
    if n != step.n && !steps::enclosing_steps(record, step.n).iter().any(|step| step.n == n) {
        return None;
    }
    let waiting =
        evidence.find("waiting ").map(|at| text_format::one_line(&evidence[at..], MAX_WAIT_REASON_BYTES));
    let waiting = waiting.map(|waiting| format!(" ({waiting})")).unwrap_or_default();
    Some(format!("step {n} made no progress at the last check{waiting}"))
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
