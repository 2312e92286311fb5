//! `relay launch`

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use common::event::MAX_TITLE;
use common::expectation::Expectation;
use common::ids::{JobId, JobName};
use common::job::Runner;
use common::origin::Origin;
use common::record::{JobRecord, State};
use common::rule::{OnLimit, OnLoop};
use common::text_format::one_line;

use super::follow_up::{self, EarlierJob};
use super::help::after_help;
use super::limits::LimitFlags;
use super::place::PlaceFlags;
use super::resolve::{self, Launch, ResolveContext};
use super::submit::{self, DaemonState, LaunchTarget};
use super::{Context, hints, images, job_ref, limits, place, prompt, session, view_context, wait};
use crate::approval::ApprovableSettings;
use crate::engine::workspace;
use crate::exit::{ExitCode, Failure};
use crate::files::watch::FolderWatch;
use crate::registry::create::{self, CreateResult};
use crate::registry::lease::PlatformStatus;
use crate::render::{View, health};
use crate::{failure_text, start_daemon};

/// Maximum time, from the start of the command, to wait for the job to start before its state is printed. The command
/// thus returns within 300 ms, even on a loaded machine.
const START_WAIT: Duration = Duration::from_millis(200);

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
    /// Image for the worker (PNG, JPEG, GIF, WebP; at most 20 MiB); repeatable
    #[arg(short, long, value_name = "FILE")]
    pub(super) image: Vec<PathBuf>,
    /// Name of the job [default: the name of the folder]
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Option<JobName>,
    /// Command line to run before the worker; repeatable
    #[arg(long, value_name = "CMD")]
    pub(super) setup: Vec<String>,
    /// Command line to run after the worker; the job fails unless it succeeds; repeatable
    #[arg(long, value_name = "CMD")]
    pub(super) check: Vec<String>,
    /// What the job has to leave behind, or it fails: `commit`, `change` (of a file) or `file:PATH`; repeatable
    #[arg(long, value_name = "WHAT")]
    pub(super) expect: Vec<Expectation>,
    /// Limits of the job.
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// Action when a step exceeds its limit: fail (the job fails) or interrupt (end only the step and let the worker
    /// continue, at most 3 times) [default: as in relay.toml, else fail]
    #[arg(long, value_name = "ACTION", value_parser = on_limit(), hide_possible_values = true)]
    pub(super) on_limit: Option<OnLimit>,
    /// Action when a worker repeats a failing step without changing a file: warn (the job continues) or fail [default:
    /// as in relay.toml, else warn]
    #[arg(long, value_name = "ACTION", value_parser = on_loop(), hide_possible_values = true)]
    pub(super) on_loop: Option<OnLoop>,
    /// Model [default: as in relay.toml, else Codex's own]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Environment variable for the worker: KEY (with its value here) or KEY=VALUE; repeatable
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
    /// Program that executes the task: codex (`codex exec`) or shell (`sh -c`)
    #[arg(long, value_parser = runner(), default_value = "codex", hide_possible_values = true)]
    pub(super) runner: Runner,
    /// Flags for a clone of the job's own.
    #[command(flatten)]
    pub(super) place: PlaceFlags,
    /// Flags for the launch and its output.
    #[command(flatten)]
    pub(super) start: StartFlags,
    /// More arguments for codex; without PROMPT, a single word is the task
    #[arg(last = true, value_name = "CODEX_ARGS")]
    pub(super) codex_args: Vec<String>,
}

/// Returns a parser of these names, each with a description for completions.
fn parser_of_names<T>(names: [(&'static str, &'static str); 2]) -> impl TypedValueParser<Value = T>
where
    T: Clone + Default + FromStr + Send + Sync + 'static,
{
    let names = names.map(|(name, about)| PossibleValue::new(name).help(about));
    PossibleValuesParser::new(names).map(|name| name.parse().unwrap_or_default())
}

pub(super) fn on_limit() -> impl TypedValueParser<Value = OnLimit> {
    parser_of_names([("fail", "The job fails"), ("interrupt", "The step is ended, the worker goes on")])
}

pub(super) fn on_loop() -> impl TypedValueParser<Value = OnLoop> {
    parser_of_names([("warn", "A warning is emitted"), ("fail", "The job fails")])
}

fn runner() -> impl TypedValueParser<Value = Runner> {
    parser_of_names([("codex", "`codex exec`"), ("shell", "`sh -c`")])
}

/// Launches a job.
///
/// # Errors
/// Exit code 2 for a mistake in the flags, 5 if the registry can't be written or no Codex worker can run. Nothing is
/// written then.
pub fn run(args: &LaunchArgs, context: &Context) -> Result<ExitCode, Failure> {
    let config = context.read_config()?;
    let target = submit::find_target(context, &config);
    let variable = |key: &str| context.caller_variable(key);
    let resolve_context = ResolveContext {
        config: &config,
        engine: target.engine,
        cwd: &context.cwd,
        caller_variable: &variable,
    };
    let wanted = args.place.resolve(&config)?;
    let mut launch = resolve_flags(args, &resolve_context, std::io::stdin())?;
    let pack = if let Some(wanted) = wanted {
        place::prepare(context, &mut launch, &wanted, args.start.quiet)?
    } else {
        workspace::check_in_place(target.engine, &config, &launch.workspace)?;
        None
    };
    if !args.start.quiet {
        hints::hint_missing_path_folders(context, &target, &config, &args.env);
        hints::hint_empty_submodules(context, &launch.workspace.host_path);
    }
    submit_and_print(context, &launch, pack.as_ref(), &target, &args.start)
}

/// Resolves the flags of `relay launch`. `stdin` is read for the prompt `-` only.
///
/// # Errors
/// Exit code 2 with one line that names the wrong flag and the fix.
pub(super) fn resolve_flags(
    args: &LaunchArgs,
    context: &ResolveContext<'_>,
    stdin: impl Read,
) -> Result<Launch, Failure> {
    let (typed, codex_args) =
        prompt::task_and_codex_args(args.prompt.as_deref(), args.file.is_some(), &args.codex_args);
    let runner = args.runner;
    if runner == Runner::Shell && (args.model.is_some() || args.on_loop.is_some() || !codex_args.is_empty()) {
        return Err(Failure::usage(
            "--model, --on-loop and arguments after -- are for codex: omit them with --runner shell",
        ));
    }
    if runner == Runner::Shell && !args.image.is_empty() {
        return Err(Failure::usage("--image is for codex: omit it with --runner shell"));
    }
    let prompt = prompt::read_prompt(typed, args.file.as_deref(), stdin)?;
    let configured = match runner {
        Runner::Shell => resolve::raise_step_limits(&context.config.limits, args.limits.timeout),
        Runner::Codex => context.config.limits.clone(),
    };
    let limits = limits::apply_flags(&configured, &args.limits)?;
    let env = resolve::resolve_env_flags(&args.env, context.caller_variable)?;
    let workspace =
        workspace::resolve_workspace(context.engine, &context.config.platform, context.cwd, &args.workspace)?;
    let mut codex = context.config.codex.job_settings(context.engine);
    if let Some(model) = &args.model {
        codex.model = Some(model.clone());
    }
    codex.args.extend_from_slice(codex_args);
    Launch {
        name: args.name.clone().unwrap_or_else(|| resolve::default_job_name(&workspace)),
        workspace,
        engine: context.engine,
        runner,
        prompt,
        env,
        setup: args.setup.clone(),
        checks: args.check.clone(),
        expect: args.expect.clone(),
        images: images::read_images(&args.image, context.cwd)?,
        limits,
        rules: context.config.rules.clone(),
        on_limit: args.on_limit.unwrap_or(context.config.on_limit),
        on_loop: args.on_loop.unwrap_or(context.config.on_loop),
        codex,
        thread_id: None,
        origin: Origin { session: session::calling_session(context.caller_variable), ..Origin::default() },
        place: None,
        share: args.place.share,
    }
    .validate(context)
}

/// Flags for the launch of a job and its output.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct StartFlags {
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
fn submit_and_print(
    context: &Context,
    launch: &Launch,
    pack: Option<&File>,
    target: &LaunchTarget,
    flags: &StartFlags,
) -> Result<ExitCode, Failure> {
    refuse_without_codex(launch, target)?;
    let created = submit::submit_job(context, launch, pack, target, flags.key.as_deref())?;
    print_created(context, &created, target, flags)
}

/// Launches a follow-up of an earlier job, unless it was already launched with the same key.
///
/// # Errors
/// Exit code 3 if the earlier job does not exist, 2 if it is ambiguous or can't be followed, and the errors of
/// [`submit_and_print()`].
pub(super) fn launch_follow_up(
    context: &Context,
    job: &str,
    flags: &StartFlags,
    resolve: impl FnOnce(&EarlierJob, &ResolveContext<'_>) -> Result<Launch, Failure>,
) -> Result<ExitCode, Failure> {
    let config = context.read_config()?;
    let target = submit::find_target(context, &config);
    if let Some(job) = follow_up::job_launched_with_key(&context.registry, flags.key.as_deref())? {
        return print_created(context, &CreateResult::Existing(job), &target, flags);
    }
    let variable = |key: &str| context.caller_variable(key);
    let resolve_context = ResolveContext {
        config: &config,
        engine: target.engine,
        cwd: &context.cwd,
        caller_variable: &variable,
    };
    let earlier = EarlierJob::find(&context.registry, job)?;
    let mut launch = resolve(&earlier, &resolve_context)?;
    let pack = place::prepare_follow_up(context, &mut launch, &earlier, flags.quiet)?;
    if launch.place.is_none() {
        workspace::check_in_place(target.engine, &config, &launch.workspace)?;
    }
    if launch.thread_id.is_none() {
        return submit_and_print(context, &launch, pack.as_ref(), &target, flags);
    }
    refuse_without_codex(&launch, &target)?;
    let created = launch_exclusively(context, &earlier, (&launch, pack.as_ref()), &target, flags)?;
    print_created(context, &created, &target, flags)
}

/// Launches a job that continues a thread, unless another command has continued it since `earlier` was read. A lock
/// lets only one command at a time check the thread and launch.
fn launch_exclusively(
    context: &Context,
    earlier: &EarlierJob,
    (launch, pack): (&Launch, Option<&File>),
    target: &LaunchTarget,
    flags: &StartFlags,
) -> Result<CreateResult, Failure> {
    let registry = &context.registry;
    registry.ensure()?;
    let _lock = create::lock_follow_up(registry).map_err(|e| registry.not_writable(&e))?;
    if let Some(job) = follow_up::job_launched_with_key(registry, flags.key.as_deref())? {
        return Ok(CreateResult::Existing(job));
    }
    EarlierJob::find(registry, &earlier.record.job.to_string())?.check_idle()?;
    submit::submit_job(context, launch, pack, target, flags.key.as_deref())
}

/// Prints a job that was launched now, or earlier with the same key. Starts a relay if none is running.
fn print_created(
    context: &Context,
    created: &CreateResult,
    target: &LaunchTarget,
    flags: &StartFlags,
) -> Result<ExitCode, Failure> {
    let (CreateResult::New(job) | CreateResult::Existing(job)) = created;
    if flags.quiet && !context.output.json {
        // The job is already durable, so its id is printed first.
        context.output.print(&job.to_string());
    }
    let runs = match &target.daemon {
        DaemonState::Running(_) => true,
        DaemonState::Absent(settings) => start_relay(context, settings, flags.quiet),
    };
    if matches!(created, CreateResult::Existing(_)) && !flags.quiet {
        context
            .output
            .print_note("a launch with the same key already created this job: nothing new was started");
    }
    if !flags.quiet || context.output.json {
        print_launch(context, job, (runs && !flags.quiet).then(|| context.started_at + START_WAIT))?;
    }
    // If the output fails, the error must still name the job.
    context
        .output
        .check_written()
        .map_err(|failure| failure.with_work_done(&format!("{job} was launched")))?;
    if flags.wait {
        wait::wait_until_ended(context, vec![job.clone()], None, false)
    } else {
        Ok(ExitCode::Done)
    }
}

/// Rejects a Codex job if no Codex worker can run.
fn refuse_without_codex(launch: &Launch, target: &LaunchTarget) -> Result<(), Failure> {
    match target.lease().map(|lease| &lease.platform) {
        Some(PlatformStatus::Ready { codex_problem: Some(problem), .. })
            if launch.runner == Runner::Codex =>
        {
            Err(Failure::unreachable(format!("no Codex worker can run: {problem}")))
        }
        _ => Ok(()),
    }
}

/// Starts the relay and prints whether it started. Returns true if a relay is running now; otherwise the job stays
/// queued.
fn start_relay(context: &Context, settings: &ApprovableSettings, quiet: bool) -> bool {
    match start_daemon::ensure_daemon(&context.root, &context.registry, settings, context.initiator()) {
        Ok(()) => {
            if !quiet {
                context.output.print_note("no relay was running: started one");
            }
            true
        }
        Err(failure) => {
            context.output.print_note(&format!("queued: no relay is running: {failure}"));
            false
        }
    }
}

/// Prints the job and its state as soon as the job has left the queue, waits for another job, or `deadline` has passed. Without a deadline,
/// prints them at once.
fn print_launch(context: &Context, job: &JobId, deadline: Option<Instant>) -> Result<(), Failure> {
    let watch = deadline.map(|_| FolderWatch::registry_folder(context.registry.folder()));
    let record = loop {
        let record = job_ref::read_record(&context.registry, job)?.record;
        let timed_out = watch.as_ref().is_none_or(|watch| !watch.wait(deadline));
        if record.state != State::Queued || record.waiting.is_some() || timed_out {
            break record;
        }
    };
    if context.output.json {
        context.output.print_json(&record);
        return Ok(());
    }
    let view = view_context::view_of_job(context, &record);
    context.output.capture_data(&record);
    context.output.print(&format_launch(&record, &view));
    Ok(())
}

/// Formats the line `Worker NAME#N launched; …`, then the state with the job's health or next action.
fn format_launch(record: &JobRecord, view: &View) -> String {
    let (state, health) = (record.state.as_str(), health::health(record, view));
    let more = match (record.state, &record.step) {
        (State::Queued, _) => format!(": {}", health.explanation),
        (state, _) if state.is_final() => match &record.error {
            Some(_) => {
                format!(": {}; next: {}", failure_text::failure_reason(record), health::next_action(record))
            }
            None => format!("; next: {}", health::next_action(record)),
        },
        (_, Some(step)) => format!(": {} {}; {health}", step.kind, one_line(&step.title, MAX_TITLE)),
        (State::Starting, None) => String::new(),
        (_, None) => format!("; {health}"),
    };
    format!("Worker {} launched; ask for status anytime.\n{state}{more}", record.job)
}
