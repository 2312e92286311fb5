//! The command `relay run`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use common::duration;
use common::hold::OnQuota;
use common::ids::JobName;
use common::job::Runner;
use common::origin::Origin;
use common::record::State;

use super::claim_notice::claim_and_show;
use super::help::after_help;
use super::limits::{self, LimitFlags, StallFlag};
use super::resolve::{self, Launch, ResolveContext};
use super::submit::DaemonState;
use super::{Context, exit_code, follow, prompt, session, submit};
use crate::engine::workspace;
use crate::exit::{ExitCode, Failure};
use crate::registry::create::{CreateResult, Schedule};
use crate::registry::log_file::LogReader;
use crate::{failure_text, start_daemon};

/// Flags of `relay run`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Exit code: that of the command; 124 if a time limit was exceeded, 125 if agent or container were \
     lost, 130 if it was cancelled. Ctrl-C stops the output, not the command.",
    [
        "relay run -w workspace-projects/demo -- npm test",
        "relay run -w workspace-projects/demo --timeout 20m -- 'npm ci && npm test'"
    ]
))]
pub struct RunArgs {
    /// Folder that the command runs in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) workspace: PathBuf,
    /// Time limit of the command and of each of its steps [default: the limits of relay.toml]
    #[arg(long, value_name = "D", value_parser = duration::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// Maximum time without progress: D for network steps (clone, install, fetch), KIND=D for another kind; repeatable
    /// [default: as in relay.toml, else 2m]
    #[arg(long, value_name = "[KIND=]D", value_parser = limits::parse_stall_limit)]
    pub(super) stall: Vec<StallFlag>,
    /// Name of the job [default: the name of the folder]
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Option<JobName>,
    /// Don't wait for other jobs that work in the folder
    #[arg(long)]
    pub(super) share: bool,
    /// Command with its arguments, or one quoted command line
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<String>,
}

/// Runs a command as a job, and prints its output unchanged; with --json, prints only the record at the end. Returns
/// the exit code of the command, or 8 if stdout is closed while the command is running.
///
/// # Errors
/// Exit code 2 for a mistake in the flags, 5 without a platform, because `relay run` does not wait for one.
pub fn run(args: &RunArgs, context: &Context) -> Result<u8, Failure> {
    let config = context.read_config()?;
    let target = submit::find_target(context, &config);
    let variable = |key: &str| context.caller_variable(key);
    let resolve_context = ResolveContext {
        config: &config,
        engine: target.engine,
        cwd: &context.cwd,
        caller_variable: &variable,
    };
    let launch = resolve_flags(args, &resolve_context)?;
    workspace::check_in_place(target.engine, &config, &launch.workspace)?;
    if let DaemonState::Absent(settings) = &target.daemon {
        start_daemon::ensure_daemon(&context.root, &context.registry, settings, context.initiator())
            .map_err(|failure| Failure::unreachable(format!("no relay is running: {failure}")))?;
    }
    start_daemon::wait_for_platform(&context.registry)?;
    let (CreateResult::New(job) | CreateResult::Existing(job)) =
        submit::submit_job(context, &launch, None, &target, None)?;
    let output = &context.output;
    let print_output = |bytes: &[u8]| {
        if !output.json {
            output.print_raw(bytes);
        }
    };
    let record = follow::follow_log(context, &job, LogReader::default(), print_output)?.record;
    if !record.state.is_final() {
        output.print_note(&format!("{job} goes on: its output is no longer read"));
        return Ok(ExitCode::StillRunning as u8);
    }
    claim_and_show(context, &record, "run", || {
        if output.json {
            output.print_json(&record);
        }
        match record.state {
            State::Failed => {
                output.print_note(&format!("{job} failed: {}", failure_text::failure_reason(&record)));
            }
            State::Cancelled => output.print_note(&format!("{job} was cancelled")),
            _ => {}
        }
    });
    Ok(exit_code::run_exit_code(&record))
}

/// Resolves the flags of `relay run`.
///
/// # Errors
/// Exit code 2 with one line that names the wrong flag and the fix.
pub(super) fn resolve_flags(args: &RunArgs, context: &ResolveContext<'_>) -> Result<Launch, Failure> {
    let prompt = match args.command.as_slice() {
        // A single word with spaces is a command line that was quoted as a whole.
        [line] if line.contains(char::is_whitespace) => line.clone(),
        words => shell_words::join(words),
    };
    if prompt.trim().is_empty() {
        return Err(Failure::usage("the command is empty: write it after --"));
    }
    let configured_limits = resolve::raise_step_limits(&context.config.limits, args.timeout);
    let flags = LimitFlags { timeout: args.timeout, stall: args.stall.clone(), ..LimitFlags::default() };
    let limits = limits::apply_flags(&configured_limits, &flags)?;
    let workspace =
        workspace::resolve_workspace(context.engine, &context.config.platform, context.cwd, &args.workspace)?;
    Launch {
        name: args.name.clone().unwrap_or_else(|| resolve::default_job_name(&workspace)),
        workspace,
        engine: context.engine,
        runner: Runner::Shell,
        prompt: prompt::check_length(prompt)?,
        env: BTreeMap::new(),
        setup: Vec::new(),
        checks: Vec::new(),
        expect: Vec::new(),
        images: None,
        limits,
        rules: context.config.rules.clone(),
        on_limit: context.config.on_limit,
        on_loop: context.config.on_loop,
        on_quota: OnQuota::default(),
        codex: context.config.codex.job_settings(context.engine),
        thread_id: None,
        origin: Origin {
            session: session::calling_session(context.caller_variable),
            attended: true,
            ..Origin::default()
        },
        place: None,
        shares_workspace: args.share,
        schedule: Schedule::default(),
    }
    .validate(context)
}
