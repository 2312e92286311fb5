//! Handling of Ctrl-C and SIGTERM: the run ends cleanly, and handles that are dropped stop every started process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::Fallible;

/// True when a signal has arrived. Static, because signal handlers belong to the process.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Interval at which a pause checks if a signal has arrived.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Catches the signals from now on.
pub(crate) fn listen_for_signals() -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = runtime.block_on(async {
        Ok::<_, std::io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        REQUESTED.store(true, Ordering::Relaxed);
        crate::say("stopping what was started");
    });
    Ok(())
}

/// Returns true if a signal has requested the end of the run.
pub(crate) fn is_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Waits for a fixed time. Fails if a signal requests the end of the run.
pub(crate) fn pause(time: Duration) -> Fallible<()> {
    let until = Instant::now() + time;
    while !is_requested() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::park_timeout(left.min(CHECK_INTERVAL));
    }
    Err("the run was interrupted".into())
}

/// Calls `poll` at this interval until it returns a value. The error after the timeout names the awaited fact, `what`.
pub(crate) fn until<T>(
    what: &str,
    interval: Duration,
    timeout: Duration,
    mut poll: impl FnMut() -> Option<T>,
) -> Fallible<T> {
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        if let Some(found) = poll() {
            return Ok(found);
        }
        pause(interval)?;
    }
    Err(format!("{what}: not within {timeout:?}").into())
}
