//! `relay retry`

use std::time::Duration;

use clap::Args;
use common::duration;
use common::job::StepKind;

use super::follow_up::{self, Earlier};
use super::launch::{self, Start};
use super::limits::{self, Stall};
use super::resolve::Surroundings;
use super::{Context, complete, submit};
use crate::exit::{Code, Failure};
use crate::registry::create::Created;

/// Flags of `relay retry`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Prompt, workspace, setup, checks, limits, model and CODEX_ARGS are those of the earlier job. The values of \
                  its environment (--env) are not kept: they are taken from here."
)]
pub struct RetryArgs {
    /// NAME#N, NAME.N, or NAME for its newest job; it must have ended, no matter how
    #[arg(value_name = "JOB", add = complete::ended())]
    pub(super) job: String,
    /// Time limit of the whole job
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    pub(super) timeout: Option<Duration>,
    /// Time limit of the steps of a kind, such as install=5m; may be repeated
    #[arg(long, value_name = "KIND=D", value_parser = limits::step_limit)]
    pub(super) step_timeout: Vec<(StepKind, Duration)>,
    /// How long a step may make no progress, as with `relay launch`; may be repeated
    #[arg(long, value_name = "[KIND=]D", value_parser = limits::stall_limit)]
    pub(super) stall: Vec<Stall>,
    /// The model
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Hand an environment variable to the worker: KEY with its value here, or KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
    /// A second call with the same key starts nothing and names the first one's job
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// Block until the job has ended, then print its summary
    #[arg(long)]
    pub(super) wait: bool,
    /// Print the new job's id alone and wait for nothing
    #[arg(short, long, conflicts_with = "wait")]
    pub(super) quiet: bool,
}

/// Launches the task of an earlier job once more.
///
/// # Errors
/// Exit code 3 or 2 for a job that is not there or not clear, 2 for one that still runs, and as `relay launch`.
pub fn run(args: &RetryArgs, context: &Context) -> Result<Code, Failure> {
    let config = context.config()?;
    let target = submit::target(context, &config);
    let variable = |key: &str| context.variable(key);
    let around =
        Surroundings { config: &config, engine: target.engine, cwd: &context.cwd, variable: &variable };
    let start = Start { key: args.key.as_deref(), wait: args.wait, quiet: args.quiet };
    if let Some(job) = follow_up::known(&context.registry, start.key)? {
        return launch::report(context, &Created::Existing(job), &target, &start);
    }
    let earlier = Earlier::find(&context.registry, &args.job)?;
    let launch = follow_up::retry(args, &earlier, &around)?;
    launch::start(context, &launch, &target, &start)
}
