//! Validity of stall limits. A stall limit that is not below the limit of its steps is rejected, because it can never
//! be reached.

use common::duration;
use common::job::{Limits, StepKind};

/// Checks the stall limit of one kind of step.
///
/// # Errors
/// Returns a description of the error, which follows the name of the setting in a message.
pub fn check_kind_limit(limits: &Limits, kind: StepKind, stall_ms: u64) -> Result<(), String> {
    if matches!(kind, StepKind::Start | StepKind::Model) {
        return Err(format!(": a {kind} step only waits and never stalls: set its time limit instead"));
    }
    check_below(kind, limits.step_ms(kind), stall_ms)
}

/// Checks the stall limit that applies to all network kinds without a stall limit of their own. It must be below each
/// step limit that is set for these kinds, and below the longest step limit of these kinds.
///
/// # Errors
/// Returns a description of the error, which follows the name of the setting in a message.
pub fn check_network_limit(
    limits: &Limits,
    is_set: impl Fn(StepKind) -> bool,
    stall_ms: u64,
) -> Result<(), String> {
    let kinds =
        StepKind::ALL.iter().copied().filter(|kind| kind.is_network() && !limits.stalls.contains_key(kind));
    let kinds: Vec<(StepKind, u64)> = kinds.map(|kind| (kind, limits.step_ms(kind))).collect();
    for (kind, limit_ms) in kinds.iter().filter(|(kind, _)| is_set(*kind)) {
        check_below(*kind, *limit_ms, stall_ms)?;
    }
    match kinds.iter().max_by_key(|(_, limit_ms)| *limit_ms) {
        Some((kind, limit_ms)) => check_below(*kind, *limit_ms, stall_ms),
        None => Ok(()),
    }
}

/// Checks that a stall limit is below the limit of the steps that it is for.
pub fn check_below(kind: StepKind, limit_ms: u64, stall_ms: u64) -> Result<(), String> {
    if stall_ms < limit_ms {
        return Ok(());
    }
    Err(format!(
        " would never be reached: {kind} steps are limited to {}: lower the stall limit or raise theirs",
        duration::format_limit(limit_ms)
    ))
}
