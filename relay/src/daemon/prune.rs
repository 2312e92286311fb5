//! Removes archived jobs in the background: thousands of files take time, and no other code touches the archive.

use std::path::Path;
use std::time::Duration;

use crate::registry::Registry;
use crate::registry::prune::{Retention, prune};
use crate::registry::requests;

/// Attempts to lock the request. Together far longer than the instant between the creation of a request and its
/// writer's unlock.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Starts to carry out a prune request. The request stays filed until the work is done, which the requesting command
/// waits for; further calls meanwhile change nothing.
pub(super) fn spawn_prune(registry: &Registry, request: &Path, keep: Retention) {
    let (registry, request) = (registry.clone(), request.to_owned());
    tokio::task::spawn_blocking(move || {
        // Locked during the work: further calls find the request locked until then.
        let Ok(turn) = requests::file_of(&registry, &request).open() else { return };
        // Its writer releases the lock an instant after creating it; a relay that prunes holds it for longer.
        let mut tries = (0..LOCK_TRIES).map(|_| turn.try_lock().is_ok());
        if !tries.any(|locked| {
            if !locked {
                std::thread::park_timeout(LOCK_PAUSE);
            }
            locked
        }) {
            return;
        }
        match prune(&registry, &keep) {
            Ok(jobs) => tracing::info!("{} archived jobs were removed", jobs.len()),
            Err(e) => tracing::error!("archived jobs can't be removed: {e}"),
        }
        if let Err(e) = requests::remove(&registry, &request) {
            tracing::error!("{} can't be removed: {e}", request.display());
        }
    });
}
