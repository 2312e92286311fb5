//! The command `relay shell`: opens a shell in the container of a running job.

use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use common::record::State;

use super::help::after_help;
use super::{Context, candidates, job_ref};
use crate::container_state::ContainerState;
use crate::engine::command::not_installed_message;
use crate::engine::job_box;
use crate::engine_kind::EngineKind;
use crate::exit::{ExitCode, Failure};
use crate::registry::read;

/// Shell script that starts the best shell of the image.
const SHELL_SCRIPT: &str = "command -v bash >/dev/null && exec bash -l; exec sh -l";

/// Flags of `relay shell`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "The shell runs beside the worker and as its user, and ends with the job. It needs a terminal, and a job with a \
     container of its own ([platform] isolation = \"job\").",
    ["relay shell demo", "relay shell demo#2"]
))]
pub struct ShellArgs {
    /// NAME#N, NAME.N, or NAME for its newest job; it must be running
    #[arg(value_name = "JOB", add = candidates::active_jobs())]
    job: String,
}

/// Opens a shell in the container of a job. Returns only if that fails.
///
/// # Errors
/// Exit code 2 without a terminal, or if the job has no container of its own; 3 if the job does not exist; 5 if the
/// engine can't be reached.
pub fn run(args: &ShellArgs, context: &Context) -> Result<ExitCode, Failure> {
    context.require_no_sandbox("shell")?;
    let job = read::resolve_job(&context.registry, &args.job)?;
    let record = job_ref::read_record(&context.registry, &job)?.record;
    if record.state.is_final() {
        let state = record.state.as_str();
        return Err(Failure::usage(format!(
            "{job} has ended ({state}), and its container is gone: `relay logs {job}` shows what it did"
        )));
    }
    let engine = record.engine.parse::<EngineKind>().ok().filter(|engine| engine.is_container());
    let Some(engine) = engine else {
        return Err(Failure::usage(format!(
            "{job} runs on this machine, in no container: open a shell in {} yourself",
            record.workspace
        )));
    };
    let boxes = job_box::named_boxes(engine, context.registry.dir()).map_err(Failure::unreachable)?;
    let found = boxes.into_iter().find(|(_, found)| *found.id.job() == job);
    let Some((name, _)) = found.filter(|(_, found)| found.state == ContainerState::Running) else {
        return Err(Failure::usage(match record.state {
            State::Queued => {
                format!("{job} has no container yet: `relay status {job}` says what it waits for")
            }
            _ => format!(
                "{job} has no container of its own: [platform] isolation = \"job\" gives each job one; `{engine} exec` \
                 opens a shell in the shared one"
            ),
        }));
    };
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Failure::usage(format!(
            "a shell needs a terminal: call `relay shell {job}` in one, or read `relay logs {job}`"
        )));
    }
    let mut command = Command::new(engine.as_str());
    command.args(["exec", "-it", "-u", "worker", &name, "sh", "-c", SHELL_SCRIPT]);
    let error = command.exec();
    Err(Failure::unreachable(not_installed_message(engine, &error)))
}
