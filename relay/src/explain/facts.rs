//! All that is explained of a job.

use common::event::{EventBody, FailureKind};
use common::event_line::EventLine;
use common::ids::JobId;
use common::job::StepKind;
use common::record::{JobRecord, State};
use common::step::Step;
use common::summary;
use jiff::Timestamp;
use serde::Serialize;

use super::advice;
use super::time::{Ledger, Spent};
use crate::render::times::between;

/// Steps that are named, the slowest first.
const SLOWEST: usize = 5;
/// A step that ended before this is not worth a line, in milliseconds.
const NOTABLE_MS: u64 = 100;
/// Signs that are told: the first ones lead to the cause, the last is the newest.
const SIGNS: usize = 4;
/// Lines of the output of a check or setup.
const OUTPUT: usize = 4;

/// A job, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Which job.
    pub job: JobId,
    /// Where it is in its life.
    pub state: State,
    /// From its launch to its end, or to now, in milliseconds.
    pub total_ms: u64,
    /// Where that went, the largest share first; the shares add up to it.
    pub time: Vec<Share>,
    /// CPU time of its steps, in milliseconds, where it was seen.
    pub cpu_ms: Option<u64>,
    /// Time of network steps that was not spent on CPU, in milliseconds, where they were seen to wait on a socket.
    pub network_wait_ms: u64,
    /// The slowest steps without their sub-steps.
    pub slowest: Vec<Slow>,
    /// Why it failed.
    pub cause: Option<Cause>,
    /// What was seen on the way, oldest first.
    pub signs: Vec<Sign>,
    /// What to try.
    pub tries: Vec<String>,
    /// The streamed log.
    pub log_path: String,
}

/// A part of the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// A kind of step, `queued` or `other`.
    pub what: &'static str,
    /// In milliseconds.
    pub ms: u64,
    /// How many steps.
    pub steps: u32,
}

/// A slow step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slow {
    /// How long it ran without a sub-step, in milliseconds.
    pub own_ms: u64,
    /// Its CPU time without that of its sub-steps, in milliseconds.
    pub own_cpu_ms: u64,
    /// The step.
    pub step: Step,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The kind of failure.
    pub kind: FailureKind,
    /// What its error says.
    pub message: String,
    /// The last lines of the check or setup that failed.
    pub output: Vec<String>,
    /// The step it happened in.
    pub step: Option<Step>,
}

/// Something that was seen before the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sign {
    /// When.
    pub at: Timestamp,
    /// The event's type.
    pub what: &'static str,
    /// Of which step.
    pub step: Option<u32>,
    /// In words.
    pub text: String,
}

/// Explains a job by its record and its log; `until` is the time up to which anything is known.
pub fn explain(record: &JobRecord, lines: &[EventLine], until: Timestamp) -> Explanation {
    let until = record.finished_at.unwrap_or(until);
    let ledger = Ledger::of(record.created_at, lines, until);
    let cause = cause(record, &ledger);
    let mut explanation = Explanation {
        job: record.job.clone(),
        state: record.state,
        total_ms: between(record.created_at, until),
        time: shares(&ledger),
        cpu_ms: ledger.cpu_ms(),
        network_wait_ms: ledger.network_wait_ms(),
        slowest: slowest(&ledger),
        signs: signs(lines),
        cause,
        tries: Vec::new(),
        log_path: record.log_path.clone(),
    };
    let current = record.step.as_ref().and_then(|step| find(&ledger, step.n));
    explanation.tries = advice::tries(record, &explanation, current, until);
    explanation
}

fn find(ledger: &Ledger, n: u32) -> Option<&Step> {
    ledger.steps.iter().map(|spent| &spent.step).find(|step| step.n == n)
}

fn shares(ledger: &Ledger) -> Vec<Share> {
    let kinds =
        ledger.kinds.iter().map(|(kind, (ms, steps))| Share { what: kind.as_str(), ms: *ms, steps: *steps });
    let rest = [("queued", ledger.queued_ms), ("other", ledger.other_ms)];
    let rest = rest.into_iter().map(|(what, ms)| Share { what, ms, steps: 0 });
    let mut shares: Vec<Share> = kinds.chain(rest).filter(|share| share.ms > 0).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.ms));
    shares
}

/// Waits for the model are one share of the time, and not worth a line each.
fn slowest(ledger: &Ledger) -> Vec<Slow> {
    let worth = |spent: &&Spent| {
        let notable = spent.own_ms >= NOTABLE_MS || spent.step.outcome.is_none();
        notable && spent.step.kind != StepKind::Model
    };
    let mut slow: Vec<&Spent> = ledger.steps.iter().filter(worth).collect();
    slow.sort_by_key(|spent| std::cmp::Reverse(spent.own_ms));
    let cpu = ledger.own_cpu();
    let named = slow.iter().take(SLOWEST).map(|spent| Slow {
        own_ms: spent.own_ms,
        own_cpu_ms: cpu.get(&spent.step.n).copied().unwrap_or(0),
        step: spent.step.clone(),
    });
    named.collect()
}

fn cause(record: &JobRecord, ledger: &Ledger) -> Option<Cause> {
    let error = record.error.as_ref()?;
    let (message, output) = match error.kind {
        FailureKind::CheckFailed | FailureKind::SetupFailed => summary::split_output(&error.message),
        _ => (error.message.as_str(), Vec::new()),
    };
    let hidden = output.len().saturating_sub(OUTPUT);
    Some(Cause {
        kind: error.kind,
        message: message.to_owned(),
        output: output[hidden..].iter().map(|line| (*line).to_owned()).collect(),
        step: error.step.and_then(|n| find(ledger, n)).cloned(),
    })
}

fn signs(lines: &[EventLine]) -> Vec<Sign> {
    let mut signs: Vec<Sign> = lines.iter().filter_map(sign).collect();
    if signs.len() > SIGNS {
        signs.drain(SIGNS - 1..signs.len() - 1);
    }
    signs
}

fn sign(line: &EventLine) -> Option<Sign> {
    let event = line.event.as_ref()?;
    let (what, step, text) = match &event.body {
        EventBody::Stalled { n, evidence } => ("stalled", Some(*n), evidence),
        EventBody::Interrupted { n, reason } => ("interrupted", Some(*n), reason),
        EventBody::Warning { message } => ("warning", None, message),
        EventBody::LinkLost { reason } => ("link_lost", None, reason),
        _ => return None,
    };
    Some(Sign { at: event.at, what, step, text: text.clone() })
}

impl Explanation {
    /// The address that a process waited for, as the evidence names it.
    pub fn address(&self) -> Option<&str> {
        let texts = self.cause.iter().map(|cause| cause.message.as_str());
        texts.chain(self.signs.iter().rev().map(|sign| sign.text.as_str())).find_map(|text| {
            let word = text.split_once("TCP ")?.1.split_whitespace().next()?;
            Some(word.trim_end_matches([',', ';', '.', ')'])).filter(|word| word.contains(':'))
        })
    }
}
