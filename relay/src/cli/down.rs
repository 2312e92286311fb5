//! `relay down`: stops the platform and the daemon.

use std::time::{Duration, Instant};

use clap::Args;
use common::record::State;

use super::Context;
use super::help::after_help;
use crate::approval;
use crate::engine::{container, local};
use crate::exit::{Code, Failure};
use crate::files::atomic::Durability;
use crate::files::watch::Watch;
use crate::plural;
use crate::registry::lease::Holder;
use crate::registry::read::Stored;
use crate::registry::requests::{Awaited, Request};
use crate::registry::{Registry, lease, read};
use crate::state_dir::StateDir;
use crate::state_dir::saved_state::SavedState;

/// Time limit for the daemon to end: 10 s for the platform, 5 s for its last events, and margin for a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Interval between checks of the lock: its release causes no file event.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Flags of `relay down`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay down", "relay down --force"]))]
pub struct DownArgs {
    /// Also end running jobs
    #[arg(long)]
    pub force: bool,
}

/// Stops platform and daemon. Queued jobs stay queued. Repeating the call is harmless.
///
/// # Errors
/// Exit code 2 if jobs are still running and `--force` is not given, 5 if something does not stop.
pub fn run(args: &DownArgs, context: &Context) -> Result<Code, Failure> {
    context.outside_of_sandboxes("down")?;
    let registry = &context.registry;
    registry.own()?;
    let running = running(context)?;
    if !running.is_empty() && !args.force {
        return Err(Failure::usage(format!(
            "still running: {}; wait, cancel, or use --force",
            running.join(", ")
        )));
    }
    stop_relay(context)?;
    Ok(done(context))
}

/// Stops the running relay and its platform, or the remains of one.
///
/// # Errors
/// Exit code 5 if something does not stop.
fn stop_relay(context: &Context) -> Result<(), Failure> {
    let registry = &context.registry;
    if lease::is_held(registry) {
        end_daemon(registry, |relay| Request::Down { relay: Some(relay) }, TIMEOUT)?;
    }
    // A relay that another command has started meanwhile has its own platform.
    if lease::is_held(registry) { Ok(()) } else { stop_platform(context) }
}

/// Asks the daemon that holds the registry to end, and waits for its end. A daemon that takes its place meanwhile was
/// started by another command and is left running.
///
/// # Errors
/// Exit code 5 if the daemon does not end in time.
pub(super) fn end_daemon(
    registry: &Registry,
    request: impl Fn(Holder) -> Request,
    patience: Duration,
) -> Result<(), Failure> {
    let watch = Watch::folder(registry.folder());
    let deadline = Instant::now() + patience;
    let mut asked: Option<(Holder, Awaited)> = None;
    while lease::is_held(registry) {
        let holder = lease::holder(registry);
        match (&asked, holder) {
            (Some((meant, _)), Some(holder)) if *meant != holder => return Ok(()),
            // A daemon that has just started may not have written its lease yet.
            (None, Some(holder)) => {
                let filed = Awaited::file(registry, &request(holder.clone()));
                asked = Some((holder, filed.map_err(|e| registry.not_writable(&e))?));
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
fn done(context: &Context) -> Code {
    context.output.print("relay is down");
    let is_queued = |stored: &Stored| stored.record.state == State::Queued;
    let queued =
        read::records(&context.registry).map_or(0, |records| records.iter().filter(is_queued).count());
    if queued > 0 {
        let jobs = plural::count(queued as u64, "queued job starts", "queued jobs start");
        context.output.note(&format!("{jobs} after the next `relay up`"));
    }
    Code::Done
}

/// Returns the unfinished jobs that are not queued.
fn running(context: &Context) -> Result<Vec<String>, Failure> {
    let records = read::records(&context.registry).map_err(|e| context.registry.not_readable(&e))?;
    let active = |state: State| !state.is_final() && state != State::Queued;
    Ok(records
        .iter()
        .filter(|stored| active(stored.record.state))
        .map(|stored| stored.record.job.to_string())
        .collect())
}

/// Stops a platform left running by a relay that died or could not stop it.
fn stop_platform(context: &Context) -> Result<(), Failure> {
    let registry = &context.registry;
    let state = StateDir::for_project(&context.root)?;
    // An agent on this machine is always looked for, however it was left behind.
    let agent = Some(state.agent()).filter(|agent| local::is_running(agent));
    // Containers are looked for on the engines in the state folder and on the approved one: the settings may have
    // changed since.
    let mut memory = SavedState::load(&state);
    let mut engines = std::mem::take(&mut memory.engines);
    let agreed = approval::agreed(&context.root).filter(|_| lease::read(registry).is_some());
    let agreed = agreed.map(|agreed| agreed.engine).filter(|engine| engine.is_container());
    engines.extend(agreed.filter(|agreed| !engines.contains(agreed)));
    if agent.is_none() && engines.is_empty() {
        return Ok(());
    }
    state.tokens().revoke_all();
    if let Some(agent) = agent.filter(|agent| !local::stop(agent)) {
        let log = agent.join("agent.log");
        return Err(Failure::unreachable(format!("the agent did not stop in time: see {}", log.display())));
    }
    for engine in engines {
        for name in container::names(engine, registry.dir()).map_err(Failure::unreachable)? {
            container::stop(engine, &name, registry.dir()).map_err(Failure::unreachable)?;
        }
    }
    let forgotten = memory.store(&state, Durability::Cached);
    forgotten.map_err(|e| Failure::unreachable(format!("the state folder can't be written: {e}")))
}
