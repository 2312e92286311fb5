//! `relay down`: stops the platform and the daemon.

use std::time::{Duration, Instant};

use clap::Args;
use common::record::State;

use super::{Context, up};
use crate::consent;
use crate::engine::{container, local};
use crate::exit::{Code, Failure};
use crate::registry::requests::{self, Request};
use crate::registry::watch::Watch;
use crate::registry::{lease, read};
use crate::state_dir::StateDir;

/// The platform has 10 s to stop, its last events 5 s, the rest is room for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Flags of `relay down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// End the jobs that still run
    #[arg(long)]
    pub force: bool,
}

/// Stops both. Queued jobs stay queued. Repeating it is harmless.
///
/// # Errors
/// Exit code 2 when jobs still run and `--force` is not given, 5 when something does not stop.
pub fn run(args: &DownArgs, context: &Context) -> Result<Code, Failure> {
    up::outside_of_sandboxes(context, "down")?;
    let registry = &context.registry;
    registry.own()?;
    let running = running(context)?;
    if !running.is_empty() && !args.force {
        return Err(Failure::usage(format!(
            "this would end {}: wait for them, cancel them, or use --force",
            running.join(", ")
        )));
    }
    if !lease::is_held(registry) {
        stop_platform(context)?;
        return Ok(done(context));
    }
    stop_relay(context)?;
    Ok(done(context))
}

/// Stops the relay that lives, and its platform.
///
/// # Errors
/// Exit code 5 when something does not stop.
pub(super) fn stop_relay(context: &Context) -> Result<(), Failure> {
    let registry = &context.registry;
    let watch = Watch::folder(registry.folder());
    requests::file(registry, &Request::Down).map_err(|e| registry.not_writable(&e))?;
    let deadline = Instant::now() + PATIENCE;
    while lease::is_held(registry) {
        if !watch.wait(Some(deadline.min(Instant::now() + Duration::from_millis(100))))
            && Instant::now() >= deadline
        {
            let log = registry.daemon_log();
            return Err(Failure::unreachable(format!("the relay does not stop: see {}", log.display())));
        }
    }
    // Without a state folder there is no agent in it.
    let agent = StateDir::of(&context.root).ok().map(|state| state.agent());
    if let Some(agent) = agent.filter(|agent| local::is_running(agent)) {
        let log = agent.join("agent.log");
        return Err(Failure::unreachable(format!("the agent did not stop in time: see {}", log.display())));
    }
    Ok(())
}

/// Says that it is done, and what waits for the next relay.
fn done(context: &Context) -> Code {
    context.output.print("relay is down");
    let stored = read::records(&context.registry).unwrap_or_default();
    let queued = stored.iter().filter(|stored| stored.record.state == State::Queued).count();
    if queued > 0 {
        context.output.note(&format!("{queued} queued: they start after the next `relay up`"));
    }
    Code::Done
}

/// Jobs that an agent has.
fn running(context: &Context) -> Result<Vec<String>, Failure> {
    let records = read::records(&context.registry).map_err(|e| context.registry.not_readable(&e))?;
    let active = |state: State| !state.is_final() && state != State::Queued;
    Ok(records
        .iter()
        .filter(|stored| active(stored.record.state))
        .map(|stored| stored.record.job.to_string())
        .collect())
}

/// What a relay that died has left running.
fn stop_platform(context: &Context) -> Result<(), Failure> {
    let registry = &context.registry;
    let state = StateDir::of(&context.root)?;
    // One of this machine may be left however it came about.
    let agent = Some(state.agent()).filter(|agent| local::is_running(agent));
    // The rest was started with what a person has agreed to, whatever the settings are by now.
    let agreed = consent::agreed(&context.root).filter(|_| lease::read(registry).is_some());
    if agent.is_none() && agreed.is_none() {
        return Ok(());
    }
    state.tokens().revoke_all();
    if agent.is_some_and(|agent| !local::stop(&agent)) {
        return Err(Failure::unreachable("the agent did not stop in time"));
    }
    match agreed {
        Some(agreed) if agreed.engine.is_container() => {
            container::stop(agreed.engine, &agreed.name, registry.dir()).map_err(Failure::unreachable)
        }
        Some(_) | None => Ok(()),
    }
}
