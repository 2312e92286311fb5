//! Removes archived jobs in the background: thousands of files take time, and no other code touches the archive.

use std::path::Path;
use std::time::Duration;

use crate::registry::Registry;
use crate::registry::prune::{Retention, prune_archive};
use crate::registry::requests;

/// Number of attempts to lock the request. Together they take much longer than a writer holds the lock.
const MAX_LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Starts to execute a prune request. The request stays filed until the work is done, because the requesting command
/// waits for its removal. Further calls meanwhile have no effect.
pub(super) fn spawn_prune(registry: &Registry, request: &Path, keep: Retention) {
    let (registry, request) = (registry.clone(), request.to_owned());
    tokio::task::spawn_blocking(move || {
        // The request stays locked during the work, so that further calls skip it.
        let Ok(turn) = requests::request_file(&registry, &request).open() else { return };
        // The writer of a request releases the lock immediately; a relay that prunes holds it longer.
        let mut tries = (0..MAX_LOCK_ATTEMPTS).map(|_| turn.try_lock().is_ok());
        if !tries.any(|locked| {
            if !locked {
                std::thread::park_timeout(LOCK_PAUSE);
            }
            locked
        }) {
            return;
        }
        match prune_archive(&registry, &keep) {
            Ok(jobs) => tracing::info!("{} archived jobs were removed", jobs.len()),
            Err(e) => tracing::error!("archived jobs can't be removed: {e}"),
        }
        if let Err(e) = requests::remove_request(&registry, &request) {
            tracing::error!("{} can't be removed: {e}", request.display());
        }
    });
}
