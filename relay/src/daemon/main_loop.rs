//! The daemon's main loop: waits for events, and passes them to the core as one typed input at a time.

use std::collections::BTreeMap;
use std::io;

use common::ids::JobId;
use common::record::JobRecord;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::core::{HEARTBEAT_INTERVAL, Input};
use super::driver::{CoreEnvironment, Driver};
use super::effects::Executor;
use super::message::Message;
use super::request_watcher::RequestWatcher;
use super::writer;
use crate::exit::Failure;

/// Event that the main loop handles.
enum LoopEvent {
    Message(Message),
    RequestFiled,
    RecordsChanged(BTreeMap<JobId, JobRecord>),
    Tick,
    Signal,
}

/// Handles events until `relay down` or a signal ends the daemon.
pub(super) async fn run(
    driver: &mut Driver<Executor>,
    messages: &mut mpsc::Receiver<Message>,
    changes: &writer::Changes,
) -> Result<(), Failure> {
    let no_signals = |e: io::Error| Failure::unreachable(format!("signals can't be caught: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut requests = RequestWatcher::new(&driver.environment.registry().requests());
    let mut heartbeat = interval(HEARTBEAT_INTERVAL);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let deadline = driver.core.deadline();
        // Every branch is cancel-safe: channels, a map, signals and timers lose nothing when another branch wins.
        let event = tokio::select! {
            Some(message) = messages.recv() => LoopEvent::Message(message),
            () = requests.next_hint() => LoopEvent::RequestFiled,
            records = changes.take_all() => LoopEvent::RecordsChanged(records),
            _ = heartbeat.tick() => LoopEvent::Tick,
            () = sleep_until(deadline) => LoopEvent::Tick,
            _ = terminate.recv() => LoopEvent::Signal,
            _ = interrupt.recv() => LoopEvent::Signal,
        };
        match event {
            LoopEvent::Message(message) => {
                let input = driver.environment.accept_message(message);
                driver.handle_input(input).await;
            }
            LoopEvent::RequestFiled => driver.read_requests().await,
            LoopEvent::RecordsChanged(records) => driver.handle_input(Input::RecordsChanged(records)).await,
            LoopEvent::Tick if driver.environment.holds_registry() => driver.run_periodic_work().await,
            LoopEvent::Tick => driver.handle_input(Input::RegistryGone).await,
            LoopEvent::Signal => {
                tracing::info!("stopping; workers go on");
                return Ok(());
            }
        }
        if driver.core.is_over(driver.environment.now()) {
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
