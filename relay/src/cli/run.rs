//! `relay run`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use common::duration;
use common::ids::JobName;
use common::job::Runner;
use common::origin::Origin;
use common::record::State;

use super::claim_notice::show_claimed;
use super::help::after_help;
use super::limits::{self, LimitFlags, Stall};
use super::resolve::{self, Launch, ResolveContext};
use super::submit::Daemon;
use super::{Context, exit_code, follow, prompt, session, submit};
use crate::engine::workspace;
use crate::exit::{Code, Failure};
use crate::registry::create::Created;
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
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    pub(super) timeout: Option<Duration>,
    /// Longest time without progress: D for network steps (clone, install, fetch), KIND=D for another kind; repeatable
    /// [default: that of relay.toml, else 2m]
    #[arg(long, value_name = "[KIND=]D", value_parser = limits::stall_limit)]
    pub(super) stall: Vec<Stall>,
    /// Name of the job [default: that of the folder]
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Option<JobName>,
    /// Command with its arguments, or one quoted command line
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<String>,
}

/// Runs a command as a job, passes its output on unchanged (with --json its record instead, at the end) and returns its
/// exit code; 8 if stdout is closed while the command is still running.
///
/// # Errors
/// Exit code 2 for a mistake in the flags, 5 without a platform: a command that is followed must not wait for one.
pub fn run(args: &RunArgs, context: &Context) -> Result<u8, Failure> {
    let config = context.config()?;
    let target = submit::target(context, &config);
    let variable = |key: &str| context.variable(key);
    let around =
        ResolveContext { config: &config, engine: target.engine, cwd: &context.cwd, variable: &variable };
    let launch = resolve_flags(args, &around)?;
    if let Daemon::Absent(settings) = &target.daemon {
        start_daemon::daemon(&context.root, &context.registry, settings, context.initiator())
            .map_err(|failure| Failure::unreachable(format!("no relay is running: {failure}")))?;
    }
    start_daemon::platform(&context.registry)?;
    let (Created::New(job) | Created::Existing(job)) = submit::submit(context, &launch, &target, None)?;
    let output = &context.output;
    let pass_on = |piece: &[u8]| {
        if !output.json {
            output.raw(piece);
        }
    };
    let record = follow::log(context, &job, LogReader::default(), pass_on)?.record;
    if !record.state.is_final() {
        output.note(&format!("{job} goes on: its output is no longer read"));
        return Ok(Code::StillRunning as u8);
    }
    show_claimed(context, &record, "run", || {
        if output.json {
            output.json(&record);
        }
        match record.state {
            State::Failed => output.note(&format!("{job} failed: {}", failure_text::reason(&record))),
            State::Cancelled => output.note(&format!("{job} was cancelled")),
            _ => {}
        }
    });
    Ok(exit_code::of_command(&record))
}

/// Resolves the flags of `relay run`.
///
/// # Errors
/// Exit code 2 with one line that names the wrong flag and the fix.
pub(super) fn resolve_flags(args: &RunArgs, around: &ResolveContext<'_>) -> Result<Launch, Failure> {
    let prompt = match args.command.as_slice() {
        // A single word with spaces is a command line that was quoted as a whole.
        [line] if line.contains(char::is_whitespace) => line.clone(),
        words => shell_words::join(words),
    };
    if prompt.trim().is_empty() {
        return Err(Failure::usage("the command is empty: write it after --"));
    }
    let configured = resolve::covered(&around.config.limits, args.timeout);
    let flags = LimitFlags { timeout: args.timeout, step_timeout: Vec::new(), stall: args.stall.clone() };
    let limits = limits::resolve(&configured, &flags)?;
    let workspace = workspace::resolve(around.engine, &around.config.platform, around.cwd, &args.workspace)?;
    Launch {
        name: args.name.clone().unwrap_or_else(|| resolve::name_of(&workspace)),
        workspace,
        engine: around.engine,
        runner: Runner::Shell,
        prompt: prompt::bounded(prompt)?,
        env: BTreeMap::new(),
        setup: Vec::new(),
        checks: Vec::new(),
        limits,
        rules: around.config.rules.clone(),
        on_limit: around.config.on_limit,
        on_loop: around.config.on_loop,
        codex: around.config.codex.settings(around.engine),
        thread: None,
        origin: Origin { session: session::session(around.variable), attended: true, ..Origin::default() },
    }
    .checked(around)
}
