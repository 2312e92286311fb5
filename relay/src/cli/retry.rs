//! `relay retry`

use clap::Args;

use super::launch::{self, OnLimitName, OnLoopName, Start};
use super::limits::LimitFlags;
use super::{Context, candidates, follow_up};
use crate::exit::{Code, Failure};

/// Flags of `relay retry`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Prompt, workspace, setup, checks, limits, model and CODEX_ARGS are those of the earlier job. The values of \
                  its environment (--env) are not kept: they are taken from here."
)]
pub struct RetryArgs {
    /// NAME#N, NAME.N, or NAME for its newest job; it must have ended, no matter how
    #[arg(value_name = "JOB", add = candidates::ended())]
    pub(super) job: String,
    /// Its limits.
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// What happens to a step at its limit: fail or interrupt [default: that of JOB]
    #[arg(long, value_name = "ACTION", value_enum, hide_possible_values = true)]
    pub(super) on_limit: Option<OnLimitName>,
    /// What happens when the worker fails at the same step again and again without changing a file: warn or fail [default:
    /// that of JOB]
    #[arg(long, value_name = "ACTION", value_enum, hide_possible_values = true)]
    pub(super) on_loop: Option<OnLoopName>,
    /// The model
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Hand an environment variable to the worker: KEY with its value here, or KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
    /// How it is launched.
    #[command(flatten)]
    pub(super) start: Start,
}

/// Launches the task of an earlier job once more.
///
/// # Errors
/// Exit code 3 if the earlier job does not exist, 2 if it is ambiguous or still running, and as `relay launch`.
pub fn run(args: &RetryArgs, context: &Context) -> Result<Code, Failure> {
    launch::follow(context, &args.job, &args.start, |earlier, around| follow_up::retry(args, earlier, around))
}
