//! Time limits among the flags: parsed, merged with those of `relay.toml`, and checked for contradictions.

use std::time::Duration;

use clap::Args;
use common::duration;
use common::job::{Limits, StepKind};

use crate::config::stall;
use crate::exit::Failure;

/// Value of one `--stall`: the limit of one kind, or of all network kinds.
pub type Stall = (Option<StepKind>, Duration);

/// The flags of whatever launches a job that are limits.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitFlags {
    /// Time limit of the whole job [default: that of relay.toml, else 4h; a retry keeps that of its job]
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Time limit of the steps of a kind, such as install=5m; repeatable
    #[arg(long, value_name = "KIND=D", value_parser = step_limit)]
    pub step_timeout: Vec<(StepKind, Duration)>,
    /// Longest time without progress: D for network steps (clone, install, fetch), KIND=D for another kind; repeatable
    /// [default: that of relay.toml, else 2m; a retry keeps that of its job]
    #[arg(long, value_name = "[KIND=]D", value_parser = stall_limit)]
    pub stall: Vec<Stall>,
}

/// Parses `KIND=D`.
pub fn step_limit(text: &str) -> Result<(StepKind, Duration), String> {
    let (kind, limit) =
        text.split_once('=').ok_or_else(|| format!("'{text}' is not KIND=D: write it like install=5m"))?;
    Ok((kind.parse()?, duration::parse(limit)?))
}

/// Parses `D` or `KIND=D`.
pub fn stall_limit(text: &str) -> Result<Stall, String> {
    if text.contains('=') {
        step_limit(text).map(|(kind, limit)| (Some(kind), limit))
    } else {
        duration::parse(text).map(|limit| (None, limit))
    }
}

/// Applies the flags to the configured limits.
///
/// # Errors
/// Exit code 2 with one line that names the flag that contradicts another limit.
pub fn resolve(configured: &Limits, flags: &LimitFlags) -> Result<Limits, Failure> {
    let mut limits = configured.clone();
    if let Some(job) = flags.timeout {
        limits.job_ms = duration::millis(job);
    }
    for (kind, limit) in &flags.step_timeout {
        let step_ms = duration::millis(*limit);
        if step_ms > limits.job_ms {
            return Err(Failure::usage(format!(
                "--step-timeout {kind}={} exceeds the limit of the job ({}): raise --timeout or lower it",
                duration::limit(step_ms),
                duration::limit(limits.job_ms)
            )));
        }
        limits.steps.insert(*kind, step_ms);
    }
    stalls(&mut limits, flags)?;
    Ok(limits)
}

fn stalls(limits: &mut Limits, flags: &LimitFlags) -> Result<(), Failure> {
    if flags.stall.iter().any(|(kind, _)| kind.is_none()) {
        // The flag applies to every network kind: it replaces the limits of single network kinds in relay.toml.
        limits.stalls.retain(|kind, _| !kind.is_network());
    }
    for (kind, stall) in &flags.stall {
        let Some(kind) = *kind else { continue };
        let stall_ms = duration::millis(*stall);
        stall::of_kind(limits, kind, stall_ms)
            .map_err(|reason| refused(&format!("{kind}={}", duration::limit(stall_ms)), &reason))?;
        limits.stalls.insert(kind, stall_ms);
    }
    if let Some((_, stall)) = flags.stall.iter().rev().find(|(kind, _)| kind.is_none()) {
        let stall_ms = duration::millis(*stall);
        let named = |kind| flags.step_timeout.iter().any(|(named, _)| *named == kind);
        stall::of_all(limits, named, stall_ms)
            .map_err(|reason| refused(&duration::limit(stall_ms), &reason))?;
        limits.stall_ms = stall_ms;
    }
    Ok(())
}

fn refused(value: &str, reason: &str) -> Failure {
    Failure::usage(format!("--stall {value}{reason} (--step-timeout KIND=D)"))
}
