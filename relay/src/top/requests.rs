//! Requests to the relay, filed in its registry.

use common::ids::JobId;

use crate::registry::event_log::LogFollower;
use crate::registry::requests::{self, DaemonRequest};
use crate::registry::{Registry, lease};

/// Time that one key press adds to a limit, in milliseconds.
pub(super) const EXTENSION_MS: u64 = 10 * 60 * 1000;

/// Requests the cancellation of a job; returns the note to show.
pub(super) fn cancel(registry: &Registry, job: &JobId, grace_ms: u64) -> String {
    let request = DaemonRequest::Cancel { job: job.clone(), grace_ms };
    filed(registry, &request, &format!("requested to cancel {job}"))
}

/// Requests an extension for a job, or for its current step; returns the note to show.
pub(super) fn extend(registry: &Registry, job: &JobId, step: bool) -> String {
    let newest = LogFollower::new().next_lines(&registry.events(job));
    let after = match newest {
        Ok(lines) => lines.last().map_or(0, |(_, line)| line.id),
        Err(e) => return format!("the event log of {job} can't be read: {e}"),
    };
    let request = DaemonRequest::Extend { job: job.clone(), step, by_ms: EXTENSION_MS, after, to_ms: None };
    let what = if step { "the step of " } else { "" };
    filed(registry, &request, &format!("requested 10m more for {what}{job}"))
}

fn filed(registry: &Registry, request: &DaemonRequest, said: &str) -> String {
    match requests::file_request(registry, request) {
        Err(e) => format!("the registry can't be written: {e}"),
        Ok(_) if lease::is_held(registry) => said.to_owned(),
        Ok(_) => format!("{said}; no relay is running: stored until `relay up`"),
    }
}
