//! Handling of Ctrl-C and SIGTERM: they end the run in order, and guards stop every process that was started.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::Fallible;

/// Set once a signal arrives; static because the process has one pair of signal handlers.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Interval at which a pause checks for the end of the run.
const LOOK: Duration = Duration::from_millis(50);

/// Catches the signals from now on.
pub(crate) fn listen() -> Fallible<()> {
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
        ASKED.store(true, Ordering::Relaxed);
        crate::say("stopping what was started");
    });
    Ok(())
}

/// Returns true if the run is to end.
pub(crate) fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Lets time pass, where the figure itself is about the passing of time.
pub(crate) fn pause(time: Duration) -> Fallible<()> {
    let until = Instant::now() + time;
    while !is_asked() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::park_timeout(left.min(LOOK));
    }
    Err("the run was interrupted".into())
}

/// Polls for a fact every `step` until it holds.
pub(crate) fn until<T>(
    what: &str,
    step: Duration,
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Fallible<T> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return Ok(found);
        }
        pause(step)?;
    }
    Err(format!("{what}: not within {patience:?}").into())
}
