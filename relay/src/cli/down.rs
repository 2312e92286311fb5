//! The command `relay down`: stops the platform and the daemon.

use std::time::{Duration, Instant};

use clap::Args;
use common::record::State;

use super::Context;
use super::help::after_help;
use crate::approval;
use crate::engine::{container, local};
use crate::exit::{ExitCode, Failure};
use crate::files::atomic::Durability;
use crate::files::watch::FolderWatch;
use crate::plural;
use crate::registry::lease::DaemonId;
use crate::registry::read::StoredRecord;
use crate::registry::requests::{AwaitedRequest, DaemonRequest};
use crate::registry::{Registry, lease, read};
use crate::state_dir::StateDir;
use crate::state_dir::saved_state::SavedState;

/// Time limit for the daemon to end: 10 s for the platform, 5 s for the last events, and a margin for a loaded machine.
const DAEMON_END_TIMEOUT: Duration = Duration::from_secs(40);
/// Interval between checks of the registry's lock. The release of the lock causes no file event.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Flags of `relay down`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay down", "relay down --force"]))]
pub struct DownArgs {
    /// Also end running jobs
    #[arg(long)]
    pub force: bool,
}

/// Stops the platform and the daemon. Queued jobs stay queued. Repeating the call is harmless.
///
/// # Errors
/// Exit code 2 if jobs are still running and `--force` is not given, 5 if something does not stop.
pub fn run(args: &DownArgs, context: &Context) -> Result<ExitCode, Failure> {
    context.require_no_sandbox("down")?;
    let registry = &context.registry;
    registry.check_owner()?;
    let running = running_jobs(context)?;
    if !running.is_empty() && !args.force {
        return Err(Failure::usage(format!(
            "still running: {}; wait, cancel, or use --force",
            running.join(", ")
        )));
    }
    stop_relay(context)?;
    Ok(print_stopped(context))
}

/// Stops the running daemon and its platform, or a platform whose daemon has died.
///
/// # Errors
/// Exit code 5 if something does not stop.
fn stop_relay(context: &Context) -> Result<(), Failure> {
    let registry = &context.registry;
    if lease::is_held(registry) {
        end_daemon(registry, |relay| DaemonRequest::Down { relay: Some(relay) }, DAEMON_END_TIMEOUT)?;
    }
    // If another command has started a relay meanwhile, the platform belongs to it.
    if lease::is_held(registry) { Ok(()) } else { stop_platform(context) }
}

/// Sends a request to end to the daemon that holds the registry, and waits for its end. A new daemon that another
/// command has started meanwhile is left running.
///
/// # Errors
/// Exit code 5 if the daemon does not end in time.
pub(super) fn end_daemon(
    registry: &Registry,
    request: impl Fn(DaemonId) -> DaemonRequest,
    timeout: Duration,
) -> Result<(), Failure> {
    let watch = FolderWatch::registry_folder(registry.folder());
    let deadline = Instant::now() + timeout;
    let mut sent_request: Option<(DaemonId, AwaitedRequest)> = None;
    while lease::is_held(registry) {
        let holder = lease::holder(registry);
        match (&sent_request, holder) {
            (Some((asked_daemon, _)), Some(holder)) if *asked_daemon != holder => return Ok(()),
            // A daemon that has just started may not have written its lease yet.
            (None, Some(holder)) => {
                let filed = AwaitedRequest::file(registry, &request(holder.clone()));
                sent_request = Some((holder, filed.map_err(|e| registry.not_writable(&e))?));
            }
            _ => {}
        }
        if !watch.wait(Some(deadline.min(Instant::now() + POLL_INTERVAL))) && Instant::now() >= deadline {
            let log = registry.daemon_log();
            return Err(Failure::unreachable(format!("the relay does not stop: see {}", log.display())));
        }
    }
    Ok(())
}

/// Prints the result, and the number of jobs queued for the next relay.
fn print_stopped(context: &Context) -> ExitCode {
    context.output.print("relay is down");
    let is_queued = |stored: &StoredRecord| stored.record.state == State::Queued;
    let queued =
        read::read_records(&context.registry).map_or(0, |records| records.iter().filter(is_queued).count());
    if queued > 0 {
        let jobs = plural::format_count(queued as u64, "queued job starts", "queued jobs start");
        context.output.print_note(&format!("{jobs} after the next `relay up`"));
    }
    ExitCode::Done
}

/// Returns the unfinished jobs that are not queued.
fn running_jobs(context: &Context) -> Result<Vec<String>, Failure> {
    let records = read::read_records(&context.registry).map_err(|e| context.registry.not_readable(&e))?;
    let is_running = |state: State| !state.is_final() && state != State::Queued;
    Ok(records
        .iter()
        .filter(|stored| is_running(stored.record.state))
        .map(|stored| stored.record.job.to_string())
        .collect())
}

/// Stops a platform that is still running because its daemon died or could not stop it.
fn stop_platform(context: &Context) -> Result<(), Failure> {
    let registry = &context.registry;
    let state = StateDir::for_project(&context.root)?;
    // relay always looks for an agent on this machine.
    let agent = Some(state.agent()).filter(|agent| local::is_agent_running(agent));
    // relay looks for containers on the engines that the state folder names and on the approved one, because the
    // settings may have changed.
    let mut saved_state = SavedState::load(&state);
    let mut engines = std::mem::take(&mut saved_state.engines);
    let approved =
        approval::approved_settings(&context.root).filter(|_| lease::read_lease(registry).is_some());
    let approved = approved.map(|approved| approved.engine).filter(|engine| engine.is_container());
    engines.extend(approved.filter(|approved| !engines.contains(approved)));
    if agent.is_none() && engines.is_empty() {
        return Ok(());
    }
    state.tokens().revoke_all();
    if let Some(agent) = agent.filter(|agent| !local::stop_agent(agent)) {
        let log = agent.join("agent.log");
        return Err(Failure::unreachable(format!("the agent did not stop in time: see {}", log.display())));
    }
    for engine in engines {
        for name in container::container_names(engine, registry.dir()).map_err(Failure::unreachable)? {
            container::stop(engine, &name, registry.dir()).map_err(Failure::unreachable)?;
        }
    }
    let stored = saved_state.store(&state, Durability::Cached);
    stored.map_err(|e| Failure::unreachable(format!("the state folder can't be written: {e}")))
}
