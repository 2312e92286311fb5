//! From a record and its log to the explanation.

use common::event::{EventBody, FailureKind};
use common::event_line::EventLine;
use common::job::StepKind;
use common::record::JobRecord;
use common::step::Step;
use common::summary;
use jiff::Timestamp;

use super::advice;
use super::explanation::{Cause, Explanation, Share, Sign, Slow};
use super::time_breakdown::{Ledger, Spent};
use crate::times::between;

/// Maximum number of steps listed, the slowest first.
const MAX_SLOWEST: usize = 5;
/// Shortest time of an ended step that is listed, in milliseconds.
const NOTABLE_MS: u64 = 100;
/// Maximum number of signs listed: the first ones lead to the cause, the last is the newest.
const MAX_SIGNS: usize = 4;
/// Maximum number of output lines of a check or setup.
const MAX_OUTPUT_LINES: usize = 4;

/// Explains a job from its record and its log. `until` is the time of the newest information.
pub fn explain(record: &JobRecord, lines: &[EventLine], until: Timestamp) -> Explanation {
    let until = record.finished_at.unwrap_or(until);
    let ledger = Ledger::build(record.created_at, lines, until);
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

/// Selects the slowest steps. Waits for the model are one share of the time and are not listed one by one.
fn slowest(ledger: &Ledger) -> Vec<Slow> {
    let worth = |spent: &&Spent| {
        let notable = spent.own_ms >= NOTABLE_MS || spent.step.outcome.is_none();
        notable && spent.step.kind != StepKind::Model
    };
    let mut slow: Vec<&Spent> = ledger.steps.iter().filter(worth).collect();
    slow.sort_by_key(|spent| std::cmp::Reverse(spent.own_ms));
    let cpu = ledger.own_cpu();
    let named = slow.iter().take(MAX_SLOWEST).map(|spent| Slow {
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
    let hidden = output.len().saturating_sub(MAX_OUTPUT_LINES);
    Some(Cause {
        kind: error.kind,
        message: message.to_owned(),
        output: output[hidden..].iter().map(|line| (*line).to_owned()).collect(),
        step: error.step.and_then(|n| find(ledger, n)).cloned(),
    })
}

fn signs(lines: &[EventLine]) -> Vec<Sign> {
    let mut signs: Vec<Sign> = lines.iter().filter_map(sign).collect();
    if signs.len() > MAX_SIGNS {
        signs.drain(MAX_SIGNS - 1..signs.len() - 1);
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
