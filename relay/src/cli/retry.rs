//! The command `relay retry`.

use std::time::Duration;

use clap::Args;
use common::duration;
use common::hold::OnQuota;
use common::ids::JobName;
use common::job::Runner;
use common::origin::FollowUp;
use common::rule::{OnLimit, OnLoop};

use super::follow_up::EarlierJob;
use super::help::after_help;
use super::launch;
use super::limits::LimitFlags;
use super::resolve::{Launch, ResolveContext};
use super::submit::StartFlags;
use super::{Context, actions, candidates, limits, schedule};
use crate::exit::{ExitCode, Failure};

/// Flags of `relay retry`.
#[derive(Debug, Default, Args)]
#[command(after_help = after_help!(
    "The new job takes prompt, workspace, setup, checks, expectations, limits, model and CODEX_ARGS from the earlier \
     one. Values of environment variables (--env) are not stored: they are read from this environment.",
    ["relay retry demo#2 --step-timeout install=20m", "relay retry --failed --since 1h"]
))]
pub struct RetryArgs {
    /// NAME#N, NAME.N, or NAME for its newest job; it must have ended
    #[arg(
        value_name = "JOB",
        add = candidates::ended_jobs(),
        required_unless_present = "failed",
        conflicts_with = "failed"
    )]
    pub(super) job: Option<String>,
    /// Retry every failed job that has no follow-up yet
    #[arg(long)]
    pub(super) failed: bool,
    /// With --failed: only jobs of this group
    #[arg(long, value_name = "GROUP", requires = "failed")]
    pub(super) group: Option<JobName>,
    /// With --failed: only jobs with an event within this time
    #[arg(long, value_name = "D", value_parser = duration::parse_duration, requires = "failed")]
    pub(super) since: Option<Duration>,
    /// Start after this job has completed; repeatable [default: none, whatever JOB waited for]
    #[arg(long, value_name = "OTHER", add = candidates::any_job(), conflicts_with = "failed")]
    pub(super) after: Vec<String>,
    /// Limits of the job.
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// Action when a step exceeds its limit: fail or interrupt [default: as in JOB]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_limit_parser(), hide_possible_values = true)]
    pub(super) on_limit: Option<OnLimit>,
    /// Action when a worker repeats a failing step without changing a file: warn or fail [default: as in JOB]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_loop_parser(), hide_possible_values = true)]
    pub(super) on_loop: Option<OnLoop>,
    /// Action when the account's usage limit is reached: wait or fail [default: as in JOB]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_quota_parser(), hide_possible_values = true)]
    pub(super) on_quota: Option<OnQuota>,
    /// Model [default: as in JOB]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Environment variable for the worker: KEY (with its value here) or KEY=VALUE; repeatable
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
    /// Flags for the launch and its output.
    #[command(flatten)]
    pub(super) start: StartFlags,
}

/// Launches a job with the task of an earlier job.
///
/// # Errors
/// Exit code 3 if the earlier job does not exist, 2 if it is ambiguous or still running, and the errors of `relay
/// launch`.
pub fn run(args: &RetryArgs, context: &Context) -> Result<ExitCode, Failure> {
    let Some(job) = &args.job else {
        return Err(Failure::usage("no job: name one, or pass --failed"));
    };
    let after = schedule::resolve_after(&args.after, context)?;
    let (_, code) = launch::launch_follow_up(context, job, &args.start, |earlier, resolve_context| {
        let mut launch = resolve_flags(args, earlier, resolve_context)?;
        launch.schedule.after = after;
        Ok(launch)
    })?;
    Ok(code)
}

/// Resolves the flags of `relay retry`.
///
/// # Errors
/// Exit code 2 with one line that describes the mistake and the fix.
pub(super) fn resolve_flags(
    args: &RetryArgs,
    earlier: &EarlierJob,
    context: &ResolveContext<'_>,
) -> Result<Launch, Failure> {
    let earlier_spec = &earlier.spec;
    for (flag, is_given) in [
        ("--model", args.model.is_some()),
        ("--on-loop", args.on_loop.is_some()),
        ("--on-quota", args.on_quota.is_some()),
    ] {
        if earlier_spec.runner == Runner::Shell && is_given {
            return Err(Failure::usage(format!(
                "{flag} is for codex jobs, and {} is a shell job: omit it",
                earlier.record.job
            )));
        }
    }
    if earlier_spec.thread.is_some() {
        earlier.check_thread(context)?;
    }
    let mut codex = context.config.codex.job_settings(context.engine);
    codex.model = args.model.clone().or_else(|| earlier_spec.codex.model.clone());
    codex.args.clone_from(&earlier_spec.codex.args);
    Launch {
        name: earlier.record.job.name().clone(),
        workspace: earlier.follow_up_workspace(context)?,
        engine: context.engine,
        runner: earlier_spec.runner,
        prompt: earlier_spec.prompt.clone(),
        env: earlier.follow_up_env(&args.env, context)?,
        setup: earlier_spec.setup.clone(),
        checks: earlier_spec.checks.clone(),
        expect: earlier_spec.expect.clone(),
        images: earlier.images.clone(),
        limits: limits::apply_flags(&earlier_spec.limits, &args.limits)?,
        rules: earlier_spec.rules.clone(),
        on_limit: args.on_limit.unwrap_or(earlier_spec.on_limit),
        on_loop: args.on_loop.unwrap_or(earlier_spec.on_loop),
        on_quota: args.on_quota.unwrap_or(earlier_spec.on_quota),
        codex,
        thread_id: earlier_spec.thread.clone(),
        origin: earlier.follow_up_origin(FollowUp::Retry, context),
        place: None,
        shares_workspace: earlier_spec.share,
        schedule: earlier.follow_up_schedule(),
    }
    .validate(context)
}
