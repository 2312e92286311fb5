//! `relay retry`

use clap::Args;

use super::help::after_help;
use super::launch::{self, OnLimitName, OnLoopName, Start};
use super::limits::LimitFlags;
use super::{Context, candidates, follow_up};
use crate::exit::{Code, Failure};

/// Flags of `relay retry`.
#[derive(Debug, Default, Args)]
#[command(after_help = after_help!(
    "The new job takes prompt, workspace, setup, checks, limits, model and CODEX_ARGS from the earlier \
     one. Values of environment variables (--env) are not stored: they are read from this environment.",
    ["relay retry demo", "relay retry demo#2 --step-timeout install=20m"]
))]
pub struct RetryArgs {
    /// NAME#N, NAME.N, or NAME for its newest job; it must have ended
    #[arg(value_name = "JOB", add = candidates::ended())]
    pub(super) job: String,
    /// Its limits.
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// Action when a step exceeds its limit: fail or interrupt [default: that of JOB]
    #[arg(long, value_name = "ACTION", value_enum, hide_possible_values = true)]
    pub(super) on_limit: Option<OnLimitName>,
    /// Action when a worker repeats a failing step without changing a file: warn or fail [default: that of JOB]
    #[arg(long, value_name = "ACTION", value_enum, hide_possible_values = true)]
    pub(super) on_loop: Option<OnLoopName>,
    /// Model [default: that of JOB]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Environment variable for the worker: KEY (with its value here) or KEY=VALUE; repeatable
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
