//! Files of requests, and queries of the job state that decides about them.

use std::io;
use std::path::Path;

use common::ids::JobId;
use common::job::JobSpec;

use super::core::{ExtensionLookup, ExtensionState, LimitRequest};
use crate::registry::requests::{self, DaemonRequest};
use crate::registry::{Registry, read};

/// Removes a request that was applied.
pub(super) fn remove_request(registry: &Registry, path: &Path) {
    if let Err(e) = requests::remove_request(registry, path) {
        tracing::error!("{} can't be removed: {e}", path.display());
    }
}

/// Removes a request to cancel a job that is not active, unless the job's record exists and can't be read.
pub(super) fn remove_cancel(registry: &Registry, path: &Path, job: &JobId) {
    if !read::load_record(registry, job).is_err_and(|e| e.kind() != io::ErrorKind::NotFound) {
        remove_request(registry, path);
    }
}

/// Rewrites a request to extend a limit; returns true on success.
pub(super) fn rewrite_request(registry: &Registry, request: &LimitRequest) -> bool {
    let LimitRequest { path, job, step, by_ms, after_event_id: after, target_ms: to_ms } = request.clone();
    let amended =
        requests::replace_request(registry, &path, &DaemonRequest::Extend { job, step, by_ms, after, to_ms });
    if let Err(e) = &amended {
        tracing::error!("{} can't be replaced: {e}", path.display());
    }
    amended.is_ok()
}

/// Reads the job state that decides about a request to extend a limit.
pub(super) fn read_extension_state(registry: &Registry, query: ExtensionLookup) -> ExtensionState {
    let ExtensionLookup { path, job, mut log, wants_spec, wants_record } = query;
    let lines = log.next_lines(&registry.events(&job)).unwrap_or_else(|e| {
        tracing::warn!("the log of {job} can't be read: {e}");
        Vec::new()
    });
    let record = if wants_record { read::load_record(registry, &job).ok() } else { None };
    ExtensionState {
        path,
        log,
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        spec_ms: if wants_spec { read_spec_limit(registry, &job) } else { None },
        recorded_seq: record.map(|stored| (stored.record.epoch, stored.record.seq)),
    }
}

pub(super) fn read_spec_limit(registry: &Registry, job: &JobId) -> Option<u64> {
    let bytes = registry.spec(job).read(read::MAX_FILE_SIZE).ok()?;
    serde_json::from_slice::<JobSpec>(&bytes).ok().map(|spec| spec.limits.job_ms)
}
