//! The command `relay launch`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use common::event::MAX_TITLE;
use common::expectation::Expectation;
use common::hold::OnQuota;
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
use super::schedule::ScheduleFlags;
use super::submit::{self, LaunchTarget, StartFlags};
use super::{
    Context, actions, attempts, hints, images, job_ref, limits, place, prompt, session, view_context, wait,
};
use crate::engine::workspace;
use crate::exit::{ExitCode, Failure};
use crate::failure_text;
use crate::files::watch::FolderWatch;
use crate::registry::create::{self, CreateResult, Schedule};
use crate::render::{View, health};

/// Maximum time, from the start of the command, to wait for the start of the job before printing the job's state. The
/// command thus returns within 300 ms, even on a loaded machine.
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
    /// Required result; without it the job fails: `commit`, `change` (of a file) or `file:PATH`; repeatable
    #[arg(long, value_name = "WHAT")]
    pub(super) expect: Vec<Expectation>,
    /// Limits of the job.
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    /// Action when a step exceeds its limit: fail (the job fails) or interrupt (end only the step and let the worker
    /// continue, at most 3 times) [default: as in relay.toml, else fail]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_limit_parser(), hide_possible_values = true)]
    pub(super) on_limit: Option<OnLimit>,
    /// Action when a worker repeats a failing step without changing a file: warn (the job continues) or fail [default:
    /// as in relay.toml, else warn]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_loop_parser(), hide_possible_values = true)]
    pub(super) on_loop: Option<OnLoop>,
    /// Action when the account's usage limit is reached: wait (until it ends; the worker goes on in its thread) or fail
    /// [default: as in relay.toml, else wait]
    #[arg(long, value_name = "ACTION", value_parser = actions::on_quota_parser(), hide_possible_values = true)]
    pub(super) on_quota: Option<OnQuota>,
    /// Model [default: as in relay.toml, else Codex's own]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Environment variable for the worker: KEY (with its value here) or KEY=VALUE; repeatable
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
    /// Program that executes the task: codex (`codex exec`) or shell (`sh -c`)
    #[arg(long, value_parser = actions::runner_parser(), default_value = "codex", hide_possible_values = true)]
    pub(super) runner: Runner,
    /// Flags for a clone of the job's own.
    #[command(flatten)]
    pub(super) place: PlaceFlags,
    /// Flags for what the job waits for.
    #[command(flatten)]
    pub(super) schedule: ScheduleFlags,
    /// Number of workers that try the same task, each with a branch of its own, 2 to 16
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub(super) attempts: Option<u32>,
    /// Flags for the launch and its output.
    #[command(flatten)]
    pub(super) start: StartFlags,
    /// More arguments for codex; without PROMPT, a single word is the task
    #[arg(last = true, value_name = "CODEX_ARGS")]
    pub(super) codex_args: Vec<String>,
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
    let mut launch = resolve_flags(args, &resolve_context, std::io::stdin())?;
    let mut place_request = args.place.resolve(&config, &launch.workspace.host_path)?;
    match (&mut place_request, args.attempts) {
        (Some(place_request), attempts) => place_request.attempts = attempts,
        (None, Some(_)) => {
            return Err(Failure::usage(
                "--attempts needs --branch: in one folder the attempts would overwrite each other",
            ));
        }
        (None, None) => {}
    }
    launch.schedule = args.schedule.resolve(context)?;
    let pack = if let Some(place_request) = place_request {
        place::prepare_place(context, &mut launch, &place_request, args.start.quiet)?
    } else {
        workspace::check_in_place(target.engine, &config, &launch.workspace)?;
        None
    };
    if !args.start.quiet {
        if launch.place.is_none() && config.branch && !args.place.in_place && !args.place.share {
            let folder = launch.workspace.host_path.display();
            context.output.print_note(&format!(
                "{folder} is in no git repository: the worker works in the folder itself"
            ));
        }
        hints::hint_missing_path_folders(context, &target, &config, &args.env);
        hints::hint_empty_submodules(context, &launch.workspace.host_path);
    }
    match args.attempts {
        None => submit_and_print(context, &launch, pack.as_ref(), &target, &args.start),
        Some(attempts) => {
            attempts::launch_attempts(context, &launch, pack.as_ref(), &target, (attempts, &args.start))
        }
    }
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
    let (typed_prompt, codex_args) =
        prompt::task_and_codex_args(args.prompt.as_deref(), args.file.is_some(), &args.codex_args);
    let runner = args.runner;
    if runner == Runner::Shell
        && (args.model.is_some()
            || args.on_loop.is_some()
            || args.on_quota.is_some()
            || !codex_args.is_empty())
    {
        return Err(Failure::usage(
            "--model, --on-loop, --on-quota and arguments after -- are for codex: omit them with --runner shell",
        ));
    }
    if runner == Runner::Shell && !args.image.is_empty() {
        return Err(Failure::usage("--image is for codex: omit it with --runner shell"));
    }
    let prompt = prompt::read_prompt(typed_prompt, args.file.as_deref(), stdin)?;
    let configured_limits = match runner {
        Runner::Shell => resolve::raise_step_limits(&context.config.limits, args.limits.timeout),
        Runner::Codex => context.config.limits.clone(),
    };
    let limits = limits::apply_flags(&configured_limits, &args.limits)?;
    let env = resolve::resolve_env_flags(&args.env, context.caller_variable)?;
    let dir = &args.workspace;
    let has_place = context.cwd.join(dir).is_dir()
        && args.place.resolve(context.config, &context.cwd.join(dir))?.is_some();
    let workspace = if has_place {
        workspace::resolve_source(context.cwd, dir)?
    } else {
        workspace::resolve_workspace(context.engine, &context.config.platform, context.cwd, dir)?
    };
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
        on_quota: args.on_quota.unwrap_or(context.config.on_quota),
        codex,
        thread_id: None,
        origin: Origin { session: session::calling_session(context.caller_variable), ..Origin::default() },
        place: None,
        shares_workspace: args.place.share,
        schedule: Schedule::default(),
    }
    .validate(context)
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
    submit::refuse_without_codex(launch, target)?;
    let created = submit::submit_job(context, launch, pack, target, flags.key.as_deref())?;
    print_created_job(context, &created, target, flags).map(|(_, code)| code)
}

/// Launches a follow-up of an earlier job, unless it was already launched with the same key. Returns the new job.
///
/// # Errors
/// Exit code 3 if the earlier job does not exist, 2 if it is ambiguous or can't be followed, and the errors of
/// [`submit_and_print()`].
pub(super) fn launch_follow_up(
    context: &Context,
    job: &str,
    flags: &StartFlags,
    resolve: impl FnOnce(&EarlierJob, &ResolveContext<'_>) -> Result<Launch, Failure>,
) -> Result<(JobId, ExitCode), Failure> {
    let config = context.read_config()?;
    let target = submit::find_target(context, &config);
    if let Some(job) = follow_up::job_launched_with_key(&context.registry, flags.key.as_deref())? {
        return print_created_job(context, &CreateResult::Existing(job), &target, flags);
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
    let pack = place::prepare_follow_up_place(context, &mut launch, &earlier, flags.quiet)?;
    if launch.place.is_none() {
        workspace::check_in_place(target.engine, &config, &launch.workspace)?;
    }
    submit::refuse_without_codex(&launch, &target)?;
    let created = if launch.thread_id.is_none() {
        submit::submit_job(context, &launch, pack.as_ref(), &target, flags.key.as_deref())?
    } else {
        launch_exclusively(context, &earlier, (&launch, pack.as_ref()), &target, flags)?
    };
    print_created_job(context, &created, &target, flags)
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
fn print_created_job(
    context: &Context,
    created: &CreateResult,
    target: &LaunchTarget,
    flags: &StartFlags,
) -> Result<(JobId, ExitCode), Failure> {
    let (CreateResult::New(job) | CreateResult::Existing(job)) = created;
    if flags.quiet && !context.output.json {
        // The job is already durable, so its id is printed first.
        context.output.print(&job.to_string());
    }
    let is_relay_running = submit::start_relay_if_needed(context, target, flags);
    if matches!(created, CreateResult::Existing(_)) && !flags.quiet {
        context
            .output
            .print_note("a launch with the same key already created this job: nothing new was started");
    }
    if !flags.quiet || context.output.json {
        print_launched_job(
            context,
            job,
            (is_relay_running && !flags.quiet).then(|| context.started_at + START_WAIT),
        )?;
    }
    // If the output fails, the error must still name the job.
    context
        .output
        .check_written()
        .map_err(|failure| failure.with_work_done(&format!("{job} was launched")))?;
    let code = if flags.wait {
        wait::wait_until_ended(context, vec![job.clone()], None, false)?
    } else {
        ExitCode::Done
    };
    Ok((job.clone(), code))
}

/// Prints the job and its state: once the job has left the queue or waits for another job, and at `deadline` at the
/// latest. Without a deadline, prints them at once.
fn print_launched_job(context: &Context, job: &JobId, deadline: Option<Instant>) -> Result<(), Failure> {
    let watch = deadline.map(|_| FolderWatch::registry_folder(context.registry.folder()));
    let record = loop {
        let record = job_ref::read_record(&context.registry, job)?.record;
        let is_timed_out = watch.as_ref().is_none_or(|watch| !watch.wait(deadline));
        if record.state != State::Queued || record.waiting.is_some() || record.held.is_some() || is_timed_out
        {
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
    let details = match (record.state, &record.step) {
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
    format!("Worker {} launched; ask for status anytime.\n{state}{details}", record.job)
}
