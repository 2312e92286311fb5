//! Health of a job, with advice, in one sentence. Pure: builds a line from record, clock and lease.
//!
//! ```text
//!  queued ──► healthy ──half of the limit──► slow ──limit──► over ──► stopping ──► ended
//!                │ no progress seen ► quiet        no news of agent or relay ► stale
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
use common::text;
use common::warnings::WAITS_FOR_NETWORK;
use jiff::Timestamp;

use super::{Paint, Relay, View, queue, steps};
use crate::failure_text::failure_kind;
use crate::registry::lease::PlatformStatus;
use crate::times::{ago, between, within};

/// Maximum length of the description of a stalled step's wait, in bytes.
const MAX_WAIT_REASON: usize = 80;
/// Maximum length of the platform's reason, in bytes.
const MAX_DETAIL: usize = 160;

/// First word of the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Word {
    /// Waiting for its turn or for a platform.
    Queued,
    /// Running as expected.
    Healthy,
    /// The running step has used more than half of its limit.
    Slow,
    /// The running step was seen without progress.
    Quiet,
    /// The running step is over its limit.
    Over,
    /// No current information about the job.
    Stale,
    /// Being ended.
    Stopping,
    Ended,
}

impl Word {
    /// Returns the word that begins the sentence.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Paint {
    /// Styles text about a job of this health: yellow and red draw attention.
    pub fn health(self, word: Word, text: &str) -> String {
        let color = match word {
            Word::Healthy => AnsiColor::Green,
            Word::Slow | Word::Quiet | Word::Stale | Word::Stopping => AnsiColor::Yellow,
            Word::Over => AnsiColor::Red,
            Word::Queued | Word::Ended => return text.to_owned(),
        };
        self.with(color.on_default(), text)
    }

    /// Styles text that needs attention: of a failed job, or of one with poor health.
    pub fn health_or_state(self, record: &JobRecord, word: Word, text: &str) -> String {
        if word == Word::Ended { self.state(record.state, text) } else { self.health(word, text) }
    }
}

/// Health of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub word: Word,
    /// Explanation and advice: one line without control characters.
    pub rest: String,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word.as_str(), self.rest)
    }
}

/// Health of a job, as far as known at `view.now`.
pub fn health(record: &JobRecord, view: &View) -> Health {
    let say = |word, rest: String| Health { word, rest: text::printable(&rest) };
    if record.state.is_final() {
        return say(Word::Ended, ended(record, view));
    }
    if record.state == State::Queued {
        return say(Word::Queued, queue::reason_of(&record.job, view));
    }
    let heard = ago(record.last_event_at, view.now);
    if view.relay == Relay::Down {
        return say(
            Word::Stale,
            format!("no relay is running; last news {heard}; the work may go on; `relay up` starts a relay"),
        );
    }
    if let Relay::Silent { pid, for_ms } = view.relay {
        let silent = queue::silent(pid, for_ms);
        return say(Word::Stale, format!("last news {heard}; the work may go on; {silent}"));
    }
    if record.link == Some(Link::Lost) {
        let why = match &view.relay {
            Relay::Up(PlatformStatus::Failed { detail }) => text::one_line(detail, MAX_DETAIL),
            _ => "the work goes on, and the agent reconnects by itself".to_owned(),
        };
        return say(Word::Stale, format!("the agent is disconnected; last news {heard}; {why}"));
    }
    if record.state == State::Stopping {
        return say(Word::Stopping, "its processes are being ended".to_owned());
    }
    step(record, view)
}

/// Next action for a job that has ended, usually a command.
pub fn next(record: &JobRecord) -> String {
    let job = &record.job;
    let resumable = record.is_resumable();
    let warned = if record.warnings.count > 0 { "check the warnings, then " } else { "" };
    match (record.state, record.error.as_ref().map(|error| error.kind)) {
        (State::Failed, Some(FailureKind::Refused)) => {
            format!("fix what the error names, then run `relay retry {job}`")
        }
        (State::Failed, _) => format!("`relay explain {job}`"),
        (State::Completed, _) if resumable => format!("{warned}`relay resume {job} \"…\"`"),
        (_, _) if resumable => format!("`relay resume {job} \"…\"`"),
        (State::Completed, _) => format!("{warned}`relay logs {job}`"),
        (_, _) => format!("`relay retry {job}`"),
    }
}

fn ended(record: &JobRecord, view: &View) -> String {
    let when = record.finished_at.map(|at| format!(" {}", ago(at, view.now))).unwrap_or_default();
    let kind = match failure_kind(record) {
        kind if kind.is_empty() => kind,
        kind => format!(" ({kind})"),
    };
    format!("{}{when}{kind}; next: {}", record.outcome(), next(record))
}

/// A running step, or a step around it, with its limit.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Number of the step.
    pub n: u32,
    pub kind: StepKind,
    /// Run time, in milliseconds of the reader's clock.
    pub spent_ms: u64,
    /// Limit, in milliseconds.
    pub limit_ms: u64,
}

/// Returns the step whose limit ends first: a step can't outlive the one that contains it. `None` without a limit.
pub fn nearest(record: &JobRecord, now: Timestamp) -> Option<Running> {
    let step = record.step.as_ref()?;
    let around = steps::around(record, step.n);
    let all = around.iter().map(|step| (step.n, step.kind, step.started_at, step.limit_ms));
    let all = all.chain([(step.n, step.kind, step.started_at, step.limit_ms)]);
    let running = all.filter_map(|(n, kind, started_at, limit)| {
        Some(Running { n, kind, spent_ms: between(started_at, now), limit_ms: limit? })
    });
    running.min_by_key(|step| i128::from(step.limit_ms) - i128::from(step.spent_ms))
}

/// Health of a job whose agent is reporting.
fn step(record: &JobRecord, view: &View) -> Health {
    let say = |word, rest: String| Health { word, rest: text::printable(&rest) };
    let Some(current) = &record.step else {
        let doing = if record.state == State::Starting { "starting" } else { "between steps" };
        return say(Word::Healthy, doing.to_owned());
    };
    let quiet = waits(record);
    let Some(near) = nearest(record, view.now) else {
        let spent = duration::short(between(current.started_at, view.now));
        let what = doing(current.kind);
        return match quiet {
            Some(waits) => say(Word::Quiet, format!("{what} {spent}; {waits}; no limit")),
            None => say(Word::Healthy, format!("{what} {spent}, no limit")),
        };
    };
    let (spent, limit) = (duration::short(near.spent_ms), duration::limit(near.limit_ms));
    let (what, job) = (doing(near.kind), &record.job);
    let Some(left) = near.limit_ms.checked_sub(near.spent_ms) else {
        return match near.kind {
            // Each sign of activity of a slowly answering model restarts its limit, and leaves no event.
            StepKind::Model => say(
                Word::Healthy,
                format!("{what} {spent}; it is answering; it is ended after {limit} without activity"),
            ),
            _ => say(
                Word::Over,
                format!("{what} {spent}, its limit was {limit}: it is being ended (or its machine slept)"),
            ),
        };
    };
    let left = within(left);
    if near.kind == StepKind::Model
        && record.warning.as_deref().is_some_and(|warning| warning.starts_with(WAITS_FOR_NETWORK))
    {
        let rest = format!(
            "the worker waits for the network {spent} of {limit}: its model can't be reached; it is ended within {left}"
        );
        return say(Word::Quiet, rest);
    }
    let more = || match near.kind {
        StepKind::Model => String::new(),
        _ if near.n == current.n => format!("; `relay extend {job} --step 10m` gives it more time"),
        _ => String::new(),
    };
    match quiet {
        Some(waits) => say(
            Word::Quiet,
            format!("{what} {spent} of {limit}; {waits}; it is ended within {left}{}", more()),
        ),
        None if near.spent_ms > near.limit_ms / 2 => {
            say(Word::Slow, format!("{what} {spent} of {limit}; it ends or is ended within {left}{}", more()))
        }
        None => say(Word::Healthy, format!("{what} {spent} of {limit}; next event expected within {left}")),
    }
}

/// Activity of a step of this kind, for the sentence.
fn doing(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Model => "waiting for the model",
        kind => kind.as_str(),
    }
}

/// Returns the evidence of the newest warning, if it says that the running step or one around it makes no progress. The
/// record does not say if the step has progressed since.
fn waits(record: &JobRecord) -> Option<String> {
    let step = record.step.as_ref()?;
    let (n, evidence) = steps::stalled(record)?;
    if n != step.n && !steps::around(record, step.n).iter().any(|step| step.n == n) {
        return None;
    }
    let waiting = evidence.find("waiting ").map(|at| text::one_line(&evidence[at..], MAX_WAIT_REASON));
    let waiting = waiting.map(|waiting| format!(" ({waiting})")).unwrap_or_default();
    Some(format!("step {n} made no progress at the last check{waiting}"))
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
