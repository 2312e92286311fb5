//! The core's event loop: one typed input at a time, handled in one place.

use std::collections::BTreeMap;
use std::io;

use common::ids::JobId;
use common::record::JobRecord;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::core::{HEARTBEAT, Input};
use super::driver::{Driver, World};
use super::effects::Executor;
use super::message::Message;
use super::request_watcher::RequestWatcher;
use super::writer;
use crate::exit::Failure;

/// Events that the main loop handles.
enum Step {
    Message(Message),
    RequestFiled,
    Changed(BTreeMap<JobId, JobRecord>),
    Tick,
    Signal,
}

/// Handles messages until `relay down` or a signal ends the daemon.
pub(super) async fn run(
    driver: &mut Driver<Executor>,
    messages: &mut mpsc::Receiver<Message>,
    changes: &writer::Changes,
) -> Result<(), Failure> {
    let no_signals = |e: io::Error| Failure::unreachable(format!("signals can't be caught: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut requests = RequestWatcher::new(&driver.world.registry().requests());
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let deadline = driver.core.deadline();
        // Every branch is cancel-safe: channels, a map, signals and timers lose nothing when another branch wins.
        let step = tokio::select! {
            Some(message) = messages.recv() => Step::Message(message),
            () = requests.changed() => Step::RequestFiled,
            records = changes.take_all() => Step::Changed(records),
            _ = heartbeat.tick() => Step::Tick,
            () = sleep_until(deadline) => Step::Tick,
            _ = terminate.recv() => Step::Signal,
            _ = interrupt.recv() => Step::Signal,
        };
        match step {
            Step::Message(message) => {
                let input = driver.world.receive(message);
                driver.handle(input).await;
            }
            Step::RequestFiled => driver.read_requests().await,
            Step::Changed(records) => driver.handle(Input::Changed(records)).await,
            Step::Tick if driver.world.holds_registry() => driver.tick().await,
            Step::Tick => driver.handle(Input::RegistryGone).await,
            Step::Signal => {
                tracing::info!("stopping; workers go on");
                return Ok(());
            }
        }
        if driver.core.is_over(driver.world.now()) {
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
