//! Flags for limits: parsing, merging with the limits of `relay.toml`, and a check for contradictions.

use std::time::Duration;

use clap::Args;
use common::budget::parse_cost;
use common::duration;
use common::job::{Limits, StepKind};

use crate::config::stall;
use crate::exit::Failure;

/// Value of one `--stall` flag: a kind of step, or `None` for all network kinds, and the limit of a stall.
pub type StallFlag = (Option<StepKind>, Duration);

/// Flags for limits, for every command that launches a job.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitFlags {
    /// Time limit of the whole job [default: as in relay.toml, else 4h; a retry keeps the limit of its job]
    #[arg(long, value_name = "D", value_parser = duration::parse_duration)]
    pub timeout: Option<Duration>,
    /// Time limit of the steps of a kind, such as install=5m; repeatable
    #[arg(long, value_name = "KIND=D", value_parser = parse_step_limit)]
    pub step_timeout: Vec<(StepKind, Duration)>,
    /// Maximum time without progress: D for network steps (clone, install, fetch), KIND=D for another kind; repeatable
    /// [default: as in relay.toml, else 2m; a retry keeps the limit of its job]
    #[arg(long, value_name = "[KIND=]D", value_parser = parse_stall_limit)]
    pub stall: Vec<StallFlag>,
    /// Maximum number of tokens that the worker may use, read and written; needs the gateway to the model
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_tokens: Option<u64>,
    /// Maximum cost of the model in US dollars, such as 0.50; needs the gateway to the model
    #[arg(long, value_name = "USD", value_parser = parse_cost)]
    pub max_cost: Option<u64>,
}

/// Parses the value `KIND=D` of `--step-timeout`.
pub fn parse_step_limit(text: &str) -> Result<(StepKind, Duration), String> {
    let (kind, limit) =
        text.split_once('=').ok_or_else(|| format!("'{text}' is not KIND=D: write it like install=5m"))?;
    Ok((kind.parse()?, duration::parse_duration(limit)?))
}

/// Parses the value `D` or `KIND=D` of `--stall`.
pub fn parse_stall_limit(text: &str) -> Result<StallFlag, String> {
    if text.contains('=') {
        parse_step_limit(text).map(|(kind, limit)| (Some(kind), limit))
    } else {
        duration::parse_duration(text).map(|limit| (None, limit))
    }
}

/// Applies the flags to the configured limits.
///
/// # Errors
/// Exit code 2 with one line that names the flag that contradicts another limit.
pub fn apply_flags(configured: &Limits, flags: &LimitFlags) -> Result<Limits, Failure> {
    let mut limits = configured.clone();
    if let Some(job) = flags.timeout {
        limits.job_ms = duration::to_millis(job);
    }
    for (kind, limit) in &flags.step_timeout {
        let step_ms = duration::to_millis(*limit);
        if step_ms > limits.job_ms {
            return Err(Failure::usage(format!(
                "--step-timeout {kind}={} exceeds the limit of the job ({}): raise --timeout or lower --step-timeout",
                duration::format_limit(step_ms),
                duration::format_limit(limits.job_ms)
            )));
        }
        limits.steps.insert(*kind, step_ms);
    }
    apply_stall_flags(&mut limits, flags)?;
    limits.budget.max_tokens = flags.max_tokens.or(limits.budget.max_tokens);
    limits.budget.max_cost_micros = flags.max_cost.or(limits.budget.max_cost_micros);
    Ok(limits)
}

fn apply_stall_flags(limits: &mut Limits, flags: &LimitFlags) -> Result<(), Failure> {
    if flags.stall.iter().any(|(kind, _)| kind.is_none()) {
        // The flag applies to every network kind, so it replaces limits of single network kinds in relay.toml.
        limits.stalls.retain(|kind, _| !kind.is_network());
    }
    for (kind, stall) in &flags.stall {
        let Some(kind) = *kind else { continue };
        let stall_ms = duration::to_millis(*stall);
        stall::check_kind_limit(limits, kind, stall_ms).map_err(|reason| {
            refuse_stall(&format!("{kind}={}", duration::format_limit(stall_ms)), &reason)
        })?;
        limits.stalls.insert(kind, stall_ms);
    }
    if let Some((_, stall)) = flags.stall.iter().rev().find(|(kind, _)| kind.is_none()) {
        let stall_ms = duration::to_millis(*stall);
        let has_step_flag = |kind| flags.step_timeout.iter().any(|(flag_kind, _)| *flag_kind == kind);
        stall::check_network_limit(limits, has_step_flag, stall_ms)
            .map_err(|reason| refuse_stall(&duration::format_limit(stall_ms), &reason))?;
        limits.stall_ms = stall_ms;
    }
    Ok(())
}

fn refuse_stall(value: &str, reason: &str) -> Failure {
    Failure::usage(format!("--stall {value}{reason} (--step-timeout KIND=D)"))
}
