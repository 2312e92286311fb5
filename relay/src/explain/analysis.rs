//! Computation of an explanation from a job's record and event log.

use common::event::{EventBody, FailureKind};
use common::event_line::EventLine;
use common::folder::describe_sharing;
use common::job::StepKind;
use common::record::JobRecord;
use common::refused_hosts;
use common::step::Step;
use common::summary;
use jiff::Timestamp;

use super::advice;
use super::explanation::{Explanation, FailureCause, SlowStep, TimeShare, WarningSign};
use super::time_breakdown::{StepTime, TimeBreakdown};
use crate::times::millis_between;

/// Maximum number of steps that are listed, the slowest first.
const MAX_SLOW_STEPS: usize = 5;
/// Minimum time of an ended step that is listed, in milliseconds.
const MIN_LISTED_MS: u64 = 100;
/// Maximum number of warning signs that are listed: the first ones, and the newest.
const MAX_SIGNS: usize = 4;
/// Maximum number of output lines of a failed check or setup that are listed.
const MAX_OUTPUT_LINES: usize = 4;

/// Explains a job from its record and its event log. `end_at` is the time of the newest information about a job that
/// has not ended.
pub fn explain(record: &JobRecord, lines: &[EventLine], end_at: Timestamp) -> Explanation {
    let end_at = record.finished_at.unwrap_or(end_at);
    let breakdown = TimeBreakdown::build(record.created_at, lines, end_at);
    let cause = failure_cause(record, &breakdown);
    let mut explanation = Explanation {
        job: record.job.clone(),
        state: record.state,
        total_ms: millis_between(record.created_at, end_at),
        time: time_shares(&breakdown),
        cpu_ms: breakdown.cpu_ms(),
        network_wait_ms: breakdown.network_wait_ms(),
        slowest: slowest_steps(&breakdown),
        signs: warning_signs(record, lines),
        cause,
        tries: Vec::new(),
        log_path: record.log_path.clone(),
    };
    let current_step = record.step.as_ref().and_then(|step| find_step(&breakdown, step.n));
    explanation.tries = advice::advice_for(record, &explanation, current_step, end_at);
    explanation
}

fn find_step(breakdown: &TimeBreakdown, n: u32) -> Option<&Step> {
    breakdown.steps.iter().map(|step_time| &step_time.step).find(|step| step.n == n)
}

fn time_shares(breakdown: &TimeBreakdown) -> Vec<TimeShare> {
    let kinds = breakdown.time_by_kind.iter().map(|(kind, (ms, steps))| TimeShare {
        what: kind.as_str(),
        ms: *ms,
        steps: *steps,
    });
    let other_shares =
        [("queued", breakdown.queued_ms), ("held", breakdown.held_ms), ("other", breakdown.other_ms)];
    let other_shares = other_shares.into_iter().map(|(what, ms)| TimeShare { what, ms, steps: 0 });
    let mut shares: Vec<TimeShare> = kinds.chain(other_shares).filter(|share| share.ms > 0).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.ms));
    shares
}

/// Selects the slowest steps. Waits for the model are left out: they appear only in the time shares.
fn slowest_steps(breakdown: &TimeBreakdown) -> Vec<SlowStep> {
    let is_listed = |step_time: &&StepTime| {
        let is_notable = step_time.own_ms >= MIN_LISTED_MS || step_time.step.outcome.is_none();
        is_notable && step_time.step.kind != StepKind::Model
    };
    let mut slow_steps: Vec<&StepTime> = breakdown.steps.iter().filter(is_listed).collect();
    slow_steps.sort_by_key(|step_time| std::cmp::Reverse(step_time.own_ms));
    let cpu = breakdown.own_cpu_by_step();
    let listed = slow_steps.iter().take(MAX_SLOW_STEPS).map(|step_time| SlowStep {
        own_ms: step_time.own_ms,
        own_cpu_ms: cpu.get(&step_time.step.n).copied().unwrap_or(0),
        step: step_time.step.clone(),
    });
    listed.collect()
}

fn failure_cause(record: &JobRecord, breakdown: &TimeBreakdown) -> Option<FailureCause> {
    let error = record.error.as_ref()?;
    let (message, output) = match error.kind {
        FailureKind::CheckFailed | FailureKind::SetupFailed => summary::split_output(&error.message),
        _ => (error.message.as_str(), Vec::new()),
    };
    let first_shown = output.len().saturating_sub(MAX_OUTPUT_LINES);
    Some(FailureCause {
        kind: error.kind,
        message: message.to_owned(),
        output: output[first_shown..].iter().map(|line| (*line).to_owned()).collect(),
        step: error.step.and_then(|n| find_step(breakdown, n)).cloned(),
    })
}

fn warning_signs(record: &JobRecord, lines: &[EventLine]) -> Vec<WarningSign> {
    let mut signs: Vec<WarningSign> = lines.iter().filter_map(sign_of_line).collect();
    if let Some(sign) = sharing_sign(record, lines) {
        signs.insert(signs.partition_point(|other| other.at <= sign.at), sign);
    }
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
        EventBody::NetworkRefused(refused) if refused.count == 1 => {
            let text = format!("{refused}: {}", refused_hosts::ALLOW_HINT);
            return Some(WarningSign { at: event.at, what: "network_refused", step: None, text });
        }
        _ => return None,
    };
    Some(WarningSign { at: event.at, what, step, text: text.clone() })
}

/// Returns one sign for all jobs that worked in the job's folder, with the time of the first event that names some.
fn sharing_sign(record: &JobRecord, lines: &[EventLine]) -> Option<WarningSign> {
    let text = describe_sharing(&record.shared_with)?;
    let mut events = lines.iter().filter_map(|line| line.event.as_ref());
    let first = events.find(|event| matches!(event.body, EventBody::FolderShared { .. }))?;
    Some(WarningSign { at: first.at, what: "folder_shared", step: None, text })
}
