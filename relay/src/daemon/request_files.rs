//! Rewrites and removes the files of requests, and reads the states of jobs that requests and waiting jobs depend on.

use std::io;
use std::path::Path;

use common::ids::JobId;
use common::job::JobSpec;
use common::record::JobRecord;
use common::result::ResultState;

use super::core::{DependencyState, ExtensionLookup, ExtensionState, LimitRequest};
use crate::job_identity::JobIdentity;
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

/// Reads the states of jobs that other jobs wait for. `lacks_result` returns true for an ended job whose result is not
/// recorded yet.
pub(super) fn read_dependencies(
    registry: &Registry,
    jobs: Vec<JobId>,
    lacks_result: impl Fn(&JobRecord) -> bool,
) -> Vec<(JobId, DependencyState)> {
    let state_of = |job: &JobId| match read::load_record(registry, job) {
        Ok(stored) => DependencyState::of_record(&stored.record, lacks_result(&stored.record)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => DependencyState::Removed,
        Err(_) => DependencyState::Pending,
    };
    jobs.into_iter().map(|job| (job.clone(), state_of(&job))).collect()
}

/// Returns the job whose result `job` starts from, if the spec of `job` does not name that commit yet.
pub(super) fn unresolved_base(registry: &Registry, job: &JobId) -> Option<JobId> {
    // The record is read first: it is small, and almost no job starts from the result of another.
    let record = read::load_record(registry, job).ok()?.record;
    record.base_job.as_ref()?;
    read::place_of(registry, job)?.base_job().cloned()
}

/// Returns the earlier job that a job follows.
pub(super) fn followed_job(registry: &Registry, job: &JobId) -> Option<JobIdentity> {
    let follows = read::load_record(registry, job).ok()?.record.origin.follows?;
    Some(JobIdentity::of(&read::load_record(registry, &follows.job).ok()?.record))
}

/// Returns the commit of a job's result.
///
/// # Errors
/// One line that says why there is no commit.
pub(super) fn result_commit(registry: &Registry, job: &JobId) -> Result<String, String> {
    let result = read::load_record(registry, job).ok().and_then(|stored| stored.record.result);
    let result = result.ok_or_else(|| format!("{job} has no result to start from (--base)"))?;
    match (result.state, result.commit) {
        (ResultState::Discarded, _) => Err(format!("the result of {job} was discarded (--base)")),
        (_, Some(commit)) => Ok(commit),
        (_, None) => Err(format!("{job} changed nothing: there is no result to start from (--base)")),
    }
}

/// Rewrites a request to extend a limit; returns true on success.
pub(super) fn rewrite_request(registry: &Registry, request: &LimitRequest) -> bool {
    let LimitRequest { path, job, is_for_step: step, by_ms, after_event_id: after, target_ms: to_ms } =
        request.clone();
    let replaced =
        requests::replace_request(registry, &path, &DaemonRequest::Extend { job, step, by_ms, after, to_ms });
    if let Err(e) = &replaced {
        tracing::error!("{} can't be replaced: {e}", path.display());
    }
    replaced.is_ok()
}

/// Reads the job state that decides about a request to extend a limit.
pub(super) fn read_extension_state(registry: &Registry, query: ExtensionLookup) -> ExtensionState {
    let ExtensionLookup { path, job, mut log_position, wants_spec, wants_record } = query;
    let lines = log_position.next_lines(&registry.events(&job)).unwrap_or_else(|e| {
        tracing::warn!("the log of {job} can't be read: {e}");
        Vec::new()
    });
    let record = if wants_record { read::load_record(registry, &job).ok() } else { None };
    ExtensionState {
        path,
        log_position,
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        spec_ms: if wants_spec { read_spec_limit(registry, &job) } else { None },
        recorded_seq: record.map(|stored| (stored.record.epoch, stored.record.seq)),
    }
}

/// Returns the warning that `other`, which works in the folder of `job`, may meet the expectations of `job`; `None` if
/// there are no expectations.
pub(super) fn shared_expectations(registry: &Registry, job: &JobId, other: &JobId) -> Option<String> {
    let expected: Vec<String> =
        read_unchecked_spec(registry, job)?.expect.iter().map(ToString::to_string).collect();
    (!expected.is_empty()).then(|| {
        format!(
            "{other} worked in the same folder at the same time, so what was expected may be its work: {}",
            expected.join(", ")
        )
    })
}

pub(super) fn read_spec_limit(registry: &Registry, job: &JobId) -> Option<u64> {
    read_unchecked_spec(registry, job).map(|spec| spec.limits.job_ms)
}

fn read_unchecked_spec(registry: &Registry, job: &JobId) -> Option<JobSpec> {
    let bytes = registry.spec(job).read(read::MAX_FILE_SIZE).ok()?;
    serde_json::from_slice(&bytes).ok()
}
