//! `relay launch`

use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use common::event::MAX_TITLE;
use common::ids::{JobId, JobName};
use common::job::Runner;
use common::origin::Origin;
use common::record::{JobRecord, State};
use common::rule::{OnLimit, OnLoop};
use common::text::one_line;

use super::follow_up::{self, Earlier};
use super::help::after_help;
use super::limits::LimitFlags;
use super::resolve::{self, Launch, ResolveContext};
use super::submit::{self, Daemon, Target};
use super::{Context, hints, job_ref, limits, prompt, session, view_context, wait};
use crate::approval::Settings;
use crate::engine::workspace;
use crate::exit::{Code, Failure};
use crate::files::watch::Watch;
use crate::registry::create::{self, Created};
use crate::registry::lease::PlatformStatus;
use crate::render::{View, health};
use crate::{failure_text, start_daemon};

/// Time from the start of the command in which it waits for the start of the job, before it prints the state. The
/// caller has its prompt back within 300 ms, on a loaded machine too.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Flags of `relay launch`.
#[derive(Debug, Args)]
#[command(after_help = after_help!([
    "relay launch -w workspace-projects/demo \"Fix the failing test and commit.\"",
    "relay launch -w workspace-projects/demo --check 'npm test' --timeout 1h -f task.md"
]))]
pub struct LaunchArgs {
    /// Task (with --runner shell, a command line); - reads it from stdin
    #[arg(value_name = "PROMPT", conflicts_with = "file")]
    pub(super) prompt: Option<String>,
    /// Read the task from a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Folder that the worker works in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) workspace: PathBuf,
    /// Name of the job [default: that of the folder]
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Option<JobName>,
    /// Command line to run before the worker; repeatable
    #[arg(long, value_name = "CMD")]
    pub(super) setup: Vec<String>,
    /// Command line to run after the worker; the job fails unless it succeeds; repeatable
    #[arg(long, value_name = "CMD")]
    pub(super) check: Vec<String>,
    /// Its limits.
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// Action when a step exceeds its limit: fail (the job fails) or interrupt (end only the step and let the worker
    /// continue, at most 3 times) [default: that of relay.toml, else fail]
    #[arg(long, value_name = "ACTION", value_parser = on_limit(), hide_possible_values = true)]
    pub(super) on_limit: Option<OnLimit>,
    /// Action when a worker repeats a failing step without changing a file: warn (the job continues) or fail [default:
    /// that of relay.toml, else warn]
    #[arg(long, value_name = "ACTION", value_parser = on_loop(), hide_possible_values = true)]
    pub(super) on_loop: Option<OnLoop>,
    /// Model [default: that of relay.toml, else Codex's own]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Environment variable for the worker: KEY (with its value here) or KEY=VALUE; repeatable
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
    /// Program that executes the task: codex (`codex exec`) or shell (`sh -c`)
    #[arg(long, value_parser = runner(), default_value = "codex", hide_possible_values = true)]
    pub(super) runner: Runner,
    /// How it is launched.
    #[command(flatten)]
    pub(super) start: Start,
    /// More arguments for codex; without PROMPT, a single word is the task
    #[arg(last = true, value_name = "CODEX_ARGS")]
    pub(super) codex_args: Vec<String>,
}

/// Parser of these names, each with a description for completions.
fn named<T>(names: [(&'static str, &'static str); 2]) -> impl TypedValueParser<Value = T>
where
    T: Clone + Default + FromStr + Send + Sync + 'static,
{
    let names = names.map(|(name, about)| PossibleValue::new(name).help(about));
    PossibleValuesParser::new(names).map(|name| name.parse().unwrap_or_default())
}

pub(super) fn on_limit() -> impl TypedValueParser<Value = OnLimit> {
    named([("fail", "The job fails"), ("interrupt", "The step is ended, the worker goes on")])
}

pub(super) fn on_loop() -> impl TypedValueParser<Value = OnLoop> {
    named([("warn", "It is warned of"), ("fail", "The job fails")])
}

fn runner() -> impl TypedValueParser<Value = Runner> {
    named([("codex", "`codex exec`"), ("shell", "`sh -c`")])
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
    let launch = resolve_flags(args, &around, std::io::stdin())?;
    if !args.start.quiet {
        hints::path(context, &target, &config, &args.env);
        hints::submodules(context, &launch.workspace.host);
    }
    start(context, &launch, &target, &args.start)
}

/// Resolves the flags of `relay launch`. `stdin` is read for the prompt `-` only.
///
/// # Errors
/// Exit code 2 with one line that names the wrong flag and the fix.
pub(super) fn resolve_flags(
    args: &LaunchArgs,
    around: &ResolveContext<'_>,
    stdin: impl Read,
) -> Result<Launch, Failure> {
    let (typed, codex_args) =
        prompt::behind_dashes(args.prompt.as_deref(), args.file.is_some(), &args.codex_args);
    let runner = args.runner;
    if runner == Runner::Shell && (args.model.is_some() || args.on_loop.is_some() || !codex_args.is_empty()) {
        return Err(Failure::usage(
            "--model, --on-loop and arguments after -- are for codex: omit them with --runner shell",
        ));
    }
    let prompt = prompt::read(typed, args.file.as_deref(), stdin)?;
    let configured = match runner {
        Runner::Shell => resolve::covered(&around.config.limits, args.limits.timeout),
        Runner::Codex => around.config.limits.clone(),
    };
    let limits = limits::resolve(&configured, &args.limits)?;
    let env = resolve::environment(&args.env, around.variable)?;
    let workspace = workspace::resolve(around.engine, &around.config.platform, around.cwd, &args.workspace)?;
    let mut codex = around.config.codex.settings(around.engine);
    if let Some(model) = &args.model {
        codex.model = Some(model.clone());
    }
    codex.args.extend_from_slice(codex_args);
    Launch {
        name: args.name.clone().unwrap_or_else(|| resolve::name_of(&workspace)),
        workspace,
        engine: around.engine,
        runner,
        prompt,
        env,
        setup: args.setup.clone(),
        checks: args.check.clone(),
        limits,
        rules: around.config.rules.clone(),
        on_limit: args.on_limit.unwrap_or(around.config.on_limit),
        on_loop: args.on_loop.unwrap_or(around.config.on_loop),
        codex,
        thread: None,
        origin: Origin { session: session::session(around.variable), ..Origin::default() },
    }
    .checked(around)
}

/// How a job is launched, and what is told of it.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Start {
    /// Idempotency key: a second launch with it starts nothing and prints the first job
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// Block until the job has ended, then print its summary
    #[arg(long)]
    pub(super) wait: bool,
    /// Print only the job's id
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
/// Exit code 3 if the earlier job does not exist, 2 if it is ambiguous or can't be followed, and as [`start()`].
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
        context.output.note("a launch with the same key already created this job: nothing new was started");
    }
    if !args.quiet || context.output.json {
        print_launch(context, job, (runs && !args.quiet).then(|| context.began + POLL_INTERVAL))?;
    }
    // If the output fails, the error must still name the job.
    context.output.finish().map_err(|failure| failure.after(&format!("{job} was launched")))?;
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
                context.output.note("no relay was running: started one");
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
            Some(_) => format!(": {}; next: {}", failure_text::reason(record), health::next(record)),
            None => format!("; next: {}", health::next(record)),
        },
        (_, Some(step)) => format!(": {} {}; {health}", step.kind, one_line(&step.title, MAX_TITLE)),
        (State::Starting, None) => String::new(),
        (_, None) => format!("; {health}"),
    };
    format!("Worker {} launched; ask for status anytime.\n{state}{more}", record.job)
}
