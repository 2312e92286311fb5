//! Changes to a job's spec after its launch.

use std::io;

use common::ids::JobId;
use common::job::JobSpec;

use crate::files::atomic::Durability;
use crate::registry::{Registry, read};

/// Removes the environment values from a job's spec and keeps their names, so that a retry can request the values.
pub(super) fn remove_env_values(registry: &Registry, job: &JobId) -> io::Result<()> {
    let file = registry.spec(job);
    let mut spec: JobSpec = serde_json::from_slice(&file.read(read::MAX_FILE_SIZE)?)?;
    if spec.env.is_empty() {
        return Ok(());
    }
    spec.env_names.extend(std::mem::take(&mut spec.env).into_keys());
    file.replace(&serde_json::to_vec(&spec)?, Durability::Synced)
}

/// Removes the environment values from the spec of an ended or accepted job. A failure is only logged, because the next
/// start tries again.
pub(super) fn remove_env_values_or_log(registry: &Registry, job: &JobId) {
    match remove_env_values(registry, job) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::error!("{job}: the environment values in its spec could not be removed: {e}");
        }
        _ => {}
    }
}

/// Sets the commit in the spec of a job that starts from another job's result, once that result is known.
pub(super) fn write_spec_base(registry: &Registry, job: &JobId, commit: &str) -> io::Result<()> {
    let file = registry.spec(job);
    let mut spec: JobSpec = serde_json::from_slice(&file.read(read::MAX_FILE_SIZE)?)?;
    let invalid = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
    spec.place = spec.place.map(|place| place.with_known_base(commit)).transpose().map_err(invalid)?;
    file.replace(&serde_json::to_vec(&spec)?, Durability::Synced)
}

/// Sets the time limit in the spec of a job that no agent has yet.
pub(super) fn write_spec_limit(registry: &Registry, job: &JobId, job_ms: u64) -> io::Result<()> {
    let file = registry.spec(job);
    let mut spec: JobSpec = serde_json::from_slice(&file.read(read::MAX_FILE_SIZE)?)?;
    spec.limits.job_ms = job_ms;
    file.replace(&serde_json::to_vec(&spec)?, Durability::Synced)
}
