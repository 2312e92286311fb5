//! Removing archived jobs beside everything else: thousands of files take their time, and nobody else touches the archive.

use std::fs::File;
use std::path::Path;

use crate::registry::Registry;
use crate::registry::prune::{Keep, prune};
use crate::registry::requests;

/// Begins to carry a request out. It stays filed until that is done, which is what whoever asked waits for; further calls
/// meanwhile change nothing.
pub(super) fn begin(registry: &Registry, request: &Path, keep: Keep) {
    let (registry, request) = (registry.clone(), request.to_owned());
    tokio::task::spawn_blocking(move || {
        // Held while it is carried out: further looks find it filed until then.
        let Ok(turn) = File::open(&request) else { return };
        if turn.try_lock().is_err() {
            return;
        }
        match prune(&registry, &keep) {
            Ok(jobs) => tracing::info!("{} archived jobs were removed", jobs.len()),
            Err(e) => tracing::error!("archived jobs can't be removed: {e}"),
        }
        if let Err(e) = requests::remove(&request) {
            tracing::error!("{} can't be removed: {e}", request.display());
        }
    });
}
