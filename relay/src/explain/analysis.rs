//! Computes the explanation from a record and its log.

use common::event::{EventBody, FailureKind};
use common::event_line::EventLine;
use common::job::StepKind;
use common::record::JobRecord;
use common::step::Step;
use common::summary;
use jiff::Timestamp;

use super::advice;
use super::explanation::{Explanation, FailureCause, SlowStep, TimeShare, WarningSign};
use super::time_breakdown::{StepTime, TimeBreakdown};
use crate::times::millis_between;

/// Maximum number of steps listed, the slowest first.
const MAX_SLOWEST: usize = 5;
/// Shortest time of an ended step that is listed, in milliseconds.
const NOTABLE_MS: u64 = 100;
/// Maximum number of warning signs listed: the first ones, and the newest.
const MAX_SIGNS: usize = 4;
/// Maximum number of output lines of a check or setup.
const MAX_OUTPUT_LINES: usize = 4;

/// Explains a job from its record and its log. `until` is the time of the newest information.
pub fn explain(record: &JobRecord, lines: &[EventLine], until: Timestamp) -> Explanation {
    let until = record.finished_at.unwrap_or(until);
    let ledger = TimeBreakdown::build(record.created_at, lines, until);
    let cause = failure_cause(record, &ledger);
    let mut explanation = Explanation {
        job: record.job.clone(),
        state: record.state,
        total_ms: millis_between(record.created_at, until),
        time: time_shares(&ledger),
        cpu_ms: ledger.cpu_ms(),
        network_wait_ms: ledger.network_wait_ms(),
        slowest: slowest_steps(&ledger),
        signs: warning_signs(lines),
        cause,
        tries: Vec::new(),
        log_path: record.log_path.clone(),
    };
    let current = record.step.as_ref().and_then(|step| find_step(&ledger, step.n));
    explanation.tries = advice::advice_for(record, &explanation, current, until);
    explanation
}

fn find_step(ledger: &TimeBreakdown, n: u32) -> Option<&Step> {
    ledger.steps.iter().map(|spent| &spent.step).find(|step| step.n == n)
}

fn time_shares(ledger: &TimeBreakdown) -> Vec<TimeShare> {
    let kinds = ledger.time_by_kind.iter().map(|(kind, (ms, steps))| TimeShare {
        what: kind.as_str(),
        ms: *ms,
        steps: *steps,
    });
    let rest = [("queued", ledger.queued_ms), ("other", ledger.other_ms)];
    let rest = rest.into_iter().map(|(what, ms)| TimeShare { what, ms, steps: 0 });
    let mut shares: Vec<TimeShare> = kinds.chain(rest).filter(|share| share.ms > 0).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.ms));
    shares
}

/// Selects the slowest steps. Skips waits for the model: only the shares of the time include them.
fn slowest_steps(ledger: &TimeBreakdown) -> Vec<SlowStep> {
    let worth = |spent: &&StepTime| {
        let notable = spent.own_ms >= NOTABLE_MS || spent.step.outcome.is_none();
        notable && spent.step.kind != StepKind::Model
    };
    let mut slow: Vec<&StepTime> = ledger.steps.iter().filter(worth).collect();
    slow.sort_by_key(|spent| std::cmp::Reverse(spent.own_ms));
    let cpu = ledger.own_cpu_by_step();
    let named = slow.iter().take(MAX_SLOWEST).map(|spent| SlowStep {
        own_ms: spent.own_ms,
        own_cpu_ms: cpu.get(&spent.step.n).copied().unwrap_or(0),
        step: spent.step.clone(),
    });
    named.collect()
}

fn failure_cause(record: &JobRecord, ledger: &TimeBreakdown) -> Option<FailureCause> {
    let error = record.error.as_ref()?;
    let (message, output) = match error.kind {
        FailureKind::CheckFailed | FailureKind::SetupFailed => summary::split_output(&error.message),
        _ => (error.message.as_str(), Vec::new()),
    };
    let hidden = output.len().saturating_sub(MAX_OUTPUT_LINES);
    Some(FailureCause {
        kind: error.kind,
        message: message.to_owned(),
        output: output[hidden..].iter().map(|line| (*line).to_owned()).collect(),
        step: error.step.and_then(|n| find_step(ledger, n)).cloned(),
    })
}

fn warning_signs(lines: &[EventLine]) -> Vec<WarningSign> {
    let mut signs: Vec<WarningSign> = lines.iter().filter_map(sign_of_line).collect();
    if signs.len() > MAX_SIGNS {
        signs.drain(MAX_SIGNS - 1..signs.len() - 1);
    }
    signs
}

fn sign_of_line(line: &EventLine) -> Option<WarningSign> {
    let event = line.event.as_ref()?;
    let (what, step, text) = match &event.body {
        EventBody::Stalled { n, evidence } => ("stalled", Some(*n), evidence),
        EventBody::Interrupted { n, reason } => ("interrupted", Some(*n), reason),
        EventBody::Warning { message } => ("warning", None, message),
        EventBody::LinkLost { reason } => ("link_lost", None, reason),
        _ => return None,
    };
    Some(WarningSign { at: event.at, what, step, text: text.clone() })
}
