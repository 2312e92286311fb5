//! `relay launch`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use common::event::MAX_TITLE;
use common::ids::{JobId, JobName};
use common::job::Runner;
use common::record::{JobRecord, State};
use common::rule::{OnLimit, OnLoop};
use common::text::one_line;
use serde::Deserialize;

use super::follow_up::{self, Earlier};
use super::limits::LimitFlags;
use super::resolve::{self, Launch, ResolveContext};
use super::submit::{self, Daemon, Target};
use super::{Context, hints, job_ref, view_context, wait};
use crate::approval::Settings;
use crate::exit::{Code, Failure};
use crate::registry::create::{self, Created};
use crate::registry::lease::PlatformStatus;
use crate::registry::watch::Watch;
use crate::render::{View, health, status};
use crate::start_daemon;

/// Time from the start of the command in which it waits for the start of the job, before it prints the state. The
/// caller has its prompt back within 300 ms, on a loaded machine too.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Flags of `relay launch`.
#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// The task (a command line with --runner shell); - reads it from stdin
    #[arg(value_name = "PROMPT", conflicts_with = "file")]
    pub(super) prompt: Option<String>,
    /// Read the task from a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// The folder to work in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) workspace: PathBuf,
    /// The job's name [default: the folder's name]
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Option<JobName>,
    /// A command line before the worker; may be repeated
    #[arg(long, value_name = "CMD")]
    pub(super) setup: Vec<String>,
    /// A command line after the worker that must succeed; may be repeated
    #[arg(long, value_name = "CMD")]
    pub(super) check: Vec<String>,
    /// Its limits.
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// What happens to a step at its limit: fail (the job fails) or interrupt (the step alone is ended and the worker
    /// goes on, at most 3 times) [default: fail, or that of relay.toml]
    #[arg(long, value_name = "ACTION", value_enum, hide_possible_values = true)]
    pub(super) on_limit: Option<OnLimitName>,
    /// What happens when the worker fails at the same step again and again without changing a file: warn (the job goes on)
    /// or fail [default: warn, or that of relay.toml]
    #[arg(long, value_name = "ACTION", value_enum, hide_possible_values = true)]
    pub(super) on_loop: Option<OnLoopName>,
    /// The model [default: that of relay.toml, else Codex's own]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Hand an environment variable to the worker: KEY with its value here, or KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
    /// What carries out the task: codex (`codex exec`) or shell (`sh -c`)
    #[arg(long, value_enum, default_value_t = RunnerName::Codex, hide_possible_values = true)]
    pub(super) runner: RunnerName,
    /// How it is launched.
    #[command(flatten)]
    pub(super) start: Start,
    /// Further arguments for codex; a single word without PROMPT is the task
    #[arg(last = true, value_name = "CODEX_ARGS")]
    pub(super) codex_args: Vec<String>,
}

/// `--on-limit`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnLimitName {
    /// The job fails.
    Fail,
    /// The step is ended, the worker goes on.
    Interrupt,
}

impl OnLimitName {
    /// Returns the action with this name.
    pub(super) fn resolve(self) -> OnLimit {
        match self {
            Self::Fail => OnLimit::Fail,
            Self::Interrupt => OnLimit::Interrupt,
        }
    }
}

/// `--on-loop`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnLoopName {
    /// It is warned of.
    Warn,
    /// The job fails.
    Fail,
}

impl OnLoopName {
    /// Returns the action with this name.
    pub(super) fn resolve(self) -> OnLoop {
        match self {
            Self::Warn => OnLoop::Warn,
            Self::Fail => OnLoop::Fail,
        }
    }
}

/// `--runner`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RunnerName {
    /// `codex exec`
    Codex,
    /// `sh -c`
    Shell,
}

/// Launches a job.
///
/// # Errors
/// Exit code 2 for a mistake in the flags, 5 if the registry can't be written or no Codex worker can run. Nothing is
/// written then.
pub fn run(args: &LaunchArgs, context: &Context) -> Result<Code, Failure> {
    let config = context.config()?;
    let target = submit::target(context, &config);
    let variable = |key: &str| context.variable(key);
    let around =
        ResolveContext { config: &config, engine: target.engine, cwd: &context.cwd, variable: &variable };
    let launch = resolve::launch(args, &around, std::io::stdin())?;
    if !args.start.quiet {
        hints::path(context, &target, &config, &args.env);
        hints::submodules(context, &launch.workspace.host);
    }
    start(context, &launch, &target, &args.start)
}

/// How a job is launched, and what is told of it.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Start {
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

/// Submits a resolved launch and prints the job's state.
///
/// # Errors
/// Exit code 5 if the registry can't be written or no Codex worker can run. Nothing is written then.
fn start(context: &Context, launch: &Launch, target: &Target, start: &Start) -> Result<Code, Failure> {
    refuse_without_codex(launch, target)?;
    let created = submit::submit(context, launch, target, start.key.as_deref())?;
    report(context, &created, target, start)
}

/// Launches a follow-up of an earlier job, unless a launch with the same key has done so before.
///
/// # Errors
/// Exit code 3 if the earlier job does not exist, 2 if it is ambiguous or can't be followed, and as [`start_daemon::daemon()`].
pub(super) fn follow(
    context: &Context,
    job: &str,
    how: &Start,
    resolve: impl FnOnce(&Earlier, &ResolveContext<'_>) -> Result<Launch, Failure>,
) -> Result<Code, Failure> {
    let config = context.config()?;
    let target = submit::target(context, &config);
    if let Some(job) = follow_up::known(&context.registry, how.key.as_deref())? {
        return report(context, &Created::Existing(job), &target, how);
    }
    let variable = |key: &str| context.variable(key);
    let around =
        ResolveContext { config: &config, engine: target.engine, cwd: &context.cwd, variable: &variable };
    let earlier = Earlier::find(&context.registry, job)?;
    let launch = resolve(&earlier, &around)?;
    if launch.thread.is_none() {
        return start(context, &launch, &target, how);
    }
    refuse_without_codex(&launch, &target)?;
    let created = go_on_alone(context, &earlier, &launch, &target, how)?;
    report(context, &created, &target, how)
}

/// Launches a job that continues a thread, unless another command has done so since `earlier` was read. A lock lets
/// only one command at a time check the thread and launch.
fn go_on_alone(
    context: &Context,
    earlier: &Earlier,
    launch: &Launch,
    target: &Target,
    how: &Start,
) -> Result<Created, Failure> {
    let registry = &context.registry;
    registry.ensure()?;
    let _turn = create::turn_to_follow(registry).map_err(|e| registry.not_writable(&e))?;
    if let Some(job) = follow_up::known(registry, how.key.as_deref())? {
        return Ok(Created::Existing(job));
    }
    Earlier::find(registry, &earlier.record.job.to_string())?.check_idle()?;
    submit::submit(context, launch, target, how.key.as_deref())
}

/// Prints a job that was launched, now or before with the same key. Starts a relay if none is running.
///
/// # Errors
/// As [`start_daemon::daemon()`].
fn report(context: &Context, created: &Created, target: &Target, args: &Start) -> Result<Code, Failure> {
    let (Created::New(job) | Created::Existing(job)) = created;
    if args.quiet && !context.output.json {
        // The job is durable: a reader of the id need not wait for the rest.
        context.output.print(&job.to_string());
    }
    let runs = match &target.daemon {
        Daemon::Running(_) => true,
        Daemon::Absent(settings) => start_relay(context, settings, args.quiet),
    };
    if matches!(created, Created::Existing(_)) && !args.quiet {
        context.output.note("a launch with the same key made this job before: nothing new was started");
    }
    if !args.quiet || context.output.json {
        print_launch(context, job, (runs && !args.quiet).then(|| context.began + POLL_INTERVAL))?;
    }
    // If the output fails, the error must still name the job.
    context.output.finish().map_err(|failure| failure.after(&format!("{job} is launched")))?;
    if args.wait { wait::until_ended(context, vec![job.clone()], None, false) } else { Ok(Code::Done) }
}

/// Rejects a Codex job if no Codex worker can run.
fn refuse_without_codex(launch: &Launch, target: &Target) -> Result<(), Failure> {
    match target.lease().map(|lease| &lease.platform) {
        Some(PlatformStatus::Ready { codex_problem: Some(problem), .. })
            if launch.runner == Runner::Codex =>
        {
            Err(Failure::unreachable(format!("no Codex worker can run: {problem}")))
        }
        _ => Ok(()),
    }
}

/// Starts the relay and prints the result; returns true if a relay is running now. Without one the job stays queued.
fn start_relay(context: &Context, settings: &Settings, quiet: bool) -> bool {
    match start_daemon::daemon(&context.root, &context.registry, settings, context.initiator()) {
        Ok(()) => {
            if !quiet {
                context.output.note("no relay was running: it has been started");
            }
            true
        }
        Err(failure) => {
            context.output.note(&format!("queued: no relay is running: {failure}"));
            false
        }
    }
}

/// Prints the job and its state: as soon as it leaves the queue, at the deadline, or at once without a deadline.
fn print_launch(context: &Context, job: &JobId, deadline: Option<Instant>) -> Result<(), Failure> {
    let watch = deadline.map(|_| Watch::folder(context.registry.folder()));
    let record = loop {
        let record = job_ref::record(&context.registry, job)?.record;
        let over = watch.as_ref().is_none_or(|watch| !watch.wait(deadline));
        if record.state != State::Queued || over {
            break record;
        }
    };
    if context.output.json {
        context.output.json(&record);
        return Ok(());
    }
    let view = view_context::view_of(context, &record);
    context.output.fact(&record);
    context.output.print(&text(&record, &view));
    Ok(())
}

/// Formats the line that the product guarantees, then the state with the job's health or next action.
fn text(record: &JobRecord, view: &View) -> String {
    let (state, health) = (record.state.as_str(), health::health(record, view));
    let more = match (record.state, &record.step) {
        (State::Queued, _) => format!(": {}", health.rest),
        (state, _) if state.is_final() => match &record.error {
            Some(_) => format!(": {}; next: {}", status::reason(record), health::next(record)),
            None => format!("; next: {}", health::next(record)),
        },
        (_, Some(step)) => format!(": {} {}; {health}", step.kind, one_line(&step.title, MAX_TITLE)),
        (_, None) => format!("; {health}"),
    };
    format!("Worker {} launched; ask for status anytime.\n{state}{more}", record.job)
}
