//! The core's event loop: one typed input at a time, handled in one place.

use std::collections::BTreeMap;
use std::io;

use common::ids::JobId;
use common::record::JobRecord;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::core::{Core, Flow, HEARTBEAT};
use super::message::Input;
use super::request_watcher::RequestWatcher;
use super::writer;
use crate::exit::Failure;

/// Events that the main loop handles.
enum Step {
    Input(Input),
    Changed(BTreeMap<JobId, JobRecord>),
    Tick,
    Signal,
}

/// Handles inputs until `relay down` or a signal ends the daemon.
///
/// # Errors
/// Fails if signals can't be caught.
pub(super) async fn run(
    core: &mut Core,
    inputs: &mut mpsc::Receiver<Input>,
    changes: &writer::Changes,
) -> Result<(), Failure> {
    let no_signals = |e: io::Error| Failure::unreachable(format!("signals can't be caught: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut requests = RequestWatcher::new(&core.registry.requests());
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let retry =
            core.next_try.into_iter().chain(core.down_deadline).chain(core.container.deadline()).min();
        // Every branch is cancel-safe: channels, a map, signals and timers lose nothing when another branch wins.
        let step = tokio::select! {
            Some(input) = inputs.recv() => Step::Input(input),
            () = requests.changed() => Step::Input(Input::RequestFiled),
            records = changes.take_all() => Step::Changed(records),
            _ = heartbeat.tick() => Step::Tick,
            () = sleep_until(retry) => Step::Tick,
            _ = terminate.recv() => Step::Signal,
            _ = interrupt.recv() => Step::Signal,
        };
        let flow = match step {
            Step::Input(input) => core.handle(input).await,
            Step::Changed(records) => core.changed(records).await,
            Step::Tick => core.tick().await,
            Step::Signal => {
                tracing::info!("stopping; workers go on");
                return Ok(());
            }
        };
        if flow == Flow::Down {
            return Ok(());
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
