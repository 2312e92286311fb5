//! `relay run`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use common::duration;
use common::ids::JobName;
use common::record::State;

use super::claim_notice::show_claimed;
use super::help::after_help;
use super::limits::{self, Stall};
use super::resolve::{self, ResolveContext};
use super::submit::Daemon;
use super::{Context, exit_code, follow, submit};
use crate::exit::{Code, Failure};
use crate::registry::create::Created;
use crate::registry::log_file::LogReader;
use crate::render::status;
use crate::start_daemon;

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
    let launch = resolve::command(args, &around)?;
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
            State::Failed => output.note(&format!("{job} failed: {}", status::reason(&record))),
            State::Cancelled => output.note(&format!("{job} was cancelled")),
            _ => {}
        }
    });
    Ok(exit_code::of_command(&record))
}
