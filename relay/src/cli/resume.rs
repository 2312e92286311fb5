//! The command `relay resume`.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use common::expectation::Expectation;
use common::hold::OnQuota;
use common::job::Runner;
use common::origin::FollowUp;
use common::rule::{OnLimit, OnLoop};

use super::follow_up::EarlierJob;
use super::help::after_help;
use super::launch;
use super::limits::LimitFlags;
use super::resolve::{Launch, ResolveContext};
use super::submit::StartFlags;
use super::{Context, actions, candidates, images, limits, prompt};
use crate::exit::{ExitCode, Failure};

/// Flags of `relay resume`.
#[derive(Debug, Default, Args)]
#[command(after_help = after_help!(
    "The worker remembers the earlier job: say only what is new. The new job takes workspace, model, \
     checks, expectations, names of environment variables (--env) and CODEX_ARGS from the earlier one. Its \
     limits are those of a new launch.",
    [
        "relay resume demo \"Update the documentation, too.\"",
        "relay resume demo#1 --check 'npm test' -f next.md"
    ]
))]
pub struct ResumeArgs {
    /// NAME#N, NAME.N, or NAME for its newest job; it must have ended
    #[arg(value_name = "JOB", add = candidates::resumable_jobs())]
    pub(super) job: String,
    /// Next task of the worker; - reads it from stdin
    #[arg(value_name = "PROMPT", conflicts_with = "file")]
    pub(super) prompt: Option<String>,
    /// Read the task from a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Image for the worker (PNG, JPEG, GIF, WebP; at most 20 MiB); repeatable
    #[arg(short, long, value_name = "FILE")]
    pub(super) image: Vec<PathBuf>,
    /// Command line to run before the worker; repeatable [default: none]
    #[arg(long, value_name = "CMD")]
    pub(super) setup: Vec<String>,
    /// Command line to run after the worker; the job fails unless it succeeds; repeatable [default: as in JOB]
    #[arg(long, value_name = "CMD")]
    pub(super) check: Vec<String>,
    /// Run no checks
    #[arg(long, conflicts_with = "check")]
    pub(super) no_check: bool,
    /// Required result; without it the job fails: `commit`, `change` or `file:PATH`; repeatable [default: as in JOB]
    #[arg(long, value_name = "WHAT")]
    pub(super) expect: Vec<Expectation>,
    /// Expect nothing
    #[arg(long, conflicts_with = "expect")]
    pub(super) no_expect: bool,
    /// Limits of the job.
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// Action when a step exceeds its limit: fail or interrupt [default: as in relay.toml, else fail]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_limit_parser(), hide_possible_values = true)]
    pub(super) on_limit: Option<OnLimit>,
    /// Action when a worker repeats a failing step without changing a file: warn or fail [default: as in relay.toml,
    /// else warn]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_loop_parser(), hide_possible_values = true)]
    pub(super) on_loop: Option<OnLoop>,
    /// Action when the account's usage limit is reached: wait or fail [default: as in relay.toml, else wait]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_quota_parser(), hide_possible_values = true)]
    pub(super) on_quota: Option<OnQuota>,
    /// Model [default: as in JOB]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Environment variable for the worker: KEY (with its value here) or KEY=VALUE; repeatable [default: the names of
    /// JOB, with their values here]
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
    /// Flags for the launch and its output.
    #[command(flatten)]
    pub(super) start: StartFlags,
    /// More arguments for codex [default: as in JOB]; without PROMPT, a single word is the prompt
    #[arg(last = true, value_name = "CODEX_ARGS")]
    pub(super) codex_args: Vec<String>,
}

/// Launches a job that continues the Codex thread of an earlier one.
///
/// # Errors
/// Exit code 3 if the earlier job does not exist, 2 if it is ambiguous or can't be continued, and the errors of `relay
/// launch`.
pub fn run(args: &ResumeArgs, context: &Context) -> Result<ExitCode, Failure> {
    let (_, code) = launch::launch_follow_up(context, &args.job, &args.start, |earlier, resolve_context| {
        resolve_flags(args, earlier, resolve_context, std::io::stdin())
    })?;
    Ok(code)
}

/// Resolves the flags of `relay resume`. `stdin` is read for the prompt `-` only.
///
/// # Errors
/// Exit code 2 with one line that describes the mistake and the fix.
pub(super) fn resolve_flags(
    args: &ResumeArgs,
    earlier: &EarlierJob,
    context: &ResolveContext<'_>,
    stdin: impl Read,
) -> Result<Launch, Failure> {
    let thread = earlier.thread_id()?.to_owned();
    earlier.check_thread(context)?;
    let (typed_prompt, codex_args) =
        prompt::task_and_codex_args(args.prompt.as_deref(), args.file.is_some(), &args.codex_args);
    let prompt = prompt::read_prompt(typed_prompt, args.file.as_deref(), stdin)?;
    let earlier_spec = &earlier.spec;
    let mut codex = context.config.codex.job_settings(context.engine);
    codex.model = args.model.clone().or_else(|| earlier_spec.codex.model.clone()).or(codex.model);
    if codex_args.is_empty() {
        codex.args.clone_from(&earlier_spec.codex.args);
    } else {
        codex.args.extend_from_slice(codex_args);
    }
    Launch {
        name: earlier.record.job.name().clone(),
        workspace: earlier.follow_up_workspace(context)?,
        engine: context.engine,
        runner: Runner::Codex,
        prompt,
        env: earlier.follow_up_env(&args.env, context)?,
        setup: args.setup.clone(),
        checks: match (args.no_check, args.check.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => earlier_spec.checks.clone(),
            (false, false) => args.check.clone(),
        },
        expect: match (args.no_expect, args.expect.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => earlier_spec.expect.clone(),
            (false, false) => args.expect.clone(),
        },
        images: images::read_images(&args.image, context.cwd)?,
        limits: limits::apply_flags(&context.config.limits, &args.limits)?,
        rules: context.config.rules.clone(),
        on_limit: args.on_limit.unwrap_or(context.config.on_limit),
        on_loop: args.on_loop.unwrap_or(context.config.on_loop),
        on_quota: args.on_quota.unwrap_or(context.config.on_quota),
        codex,
        thread_id: Some(thread),
        origin: earlier.follow_up_origin(FollowUp::Resume, context),
        place: None,
        shares_workspace: earlier_spec.share,
        schedule: earlier.follow_up_schedule(),
    }
    .validate(context)
}
