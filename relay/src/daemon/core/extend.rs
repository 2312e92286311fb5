//! Requests to extend limits: each is applied once, even across crashes. Pure.
//!
//! ```text
//!          job is queued
//!  filed ─────────────────────────► StoreTargetLimit (new limit, in the request) ──► WriteSpecLimit ──────► Done
//!    │     the agent has the job
//!    └────────────────────────────► SendRequest ──► sent ── an `extended` event after the request ───────► Done
//!                                    ▲                │──── the connection lives on without one: no limit ─► Done
//!                                    └────────────────┘ the connection ended, the agent is back, and its older
//!                                                       events lack it
//! ```
//!
//! Only the oldest request of each job is active, so that an event can answer only that request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::wire::DEAD_AFTER;
use tokio::time::Instant;

use super::connections::ConnectionNumber;
use super::scheduler::Assignment;
use crate::registry::event_log::LogFollower;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct LimitRequest {
    /// Path of the request's file.
    pub(in crate::daemon) path: PathBuf,
    /// Job whose limit is extended.
    pub(in crate::daemon) job: JobId,
    /// True for the limit of the current step, false for the limit of the job.
    pub(in crate::daemon) is_for_step: bool,
    /// Extension, in milliseconds.
    pub(in crate::daemon) by_ms: u64,
    /// Only events of the job after this id can answer the request.
    pub(in crate::daemon) after_event_id: u64,
    /// New limit that the spec of a queued job gets, in milliseconds; `None` until it is known.
    pub(in crate::daemon) target_ms: Option<u64>,
}

/// Query of the job state that decides about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct ExtensionLookup {
    /// Path of the request's file.
    pub(in crate::daemon) path: PathBuf,
    /// Job whose limit is extended.
    pub(in crate::daemon) job: JobId,
    /// Position in the job's event log, after the lines that earlier queries have read.
    pub(in crate::daemon) log_position: LogFollower,
    /// True if the limit must be read from the job's spec.
    pub(in crate::daemon) wants_spec: bool,
    /// True if the newest durable event must be read from the job's record.
    pub(in crate::daemon) wants_record: bool,
}

/// Result of an [`ExtensionLookup`].
#[derive(Debug)]
pub(in crate::daemon) struct ExtensionState {
    /// Path of the request's file.
    pub(in crate::daemon) path: PathBuf,
    /// Position in the job's event log after `lines`.
    pub(in crate::daemon) log_position: LogFollower,
    /// New lines of the job's event log.
    pub(in crate::daemon) lines: Vec<EventLine>,
    /// Limit of the job in its spec, in milliseconds.
    pub(in crate::daemon) spec_ms: Option<u64>,
    /// Run and number of the newest event in the job's record.
    pub(in crate::daemon) recorded_seq: Option<(u32, u64)>,
}

/// State of the job whose limit a request extends.
#[derive(Debug, Clone)]
pub(super) struct JobStatus {
    /// Assignment of the job; `None` once it has ended.
    pub(super) assignment: Option<Assignment>,
    /// Connection of the job's agent, if it is connected.
    pub(super) connection: Option<ConnectionNumber>,
    /// True if all events that the agent had when it connected are recorded.
    pub(super) has_caught_up: bool,
    /// Limit of the job in its spec, in milliseconds.
    pub(super) spec_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextAction {
    Wait,
    /// Send the request to the agent.
    SendRequest,
    /// Write this limit, in milliseconds, into the request, so that the limit is not extended twice after a crash.
    StoreTargetLimit(u64),
    /// Write this limit, in milliseconds, into the job's spec.
    WriteSpecLimit(u64),
    /// Remove the request. Contains the id of the event that answered it, if there was one.
    Done(Option<u64>),
}

/// Progress of the active requests, by the path of the request's file.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    requests: BTreeMap<PathBuf, ActiveRequest>,
}

/// Progress of an active request.
#[derive(Debug)]
struct ActiveRequest {
    /// Position in the job's event log, after the lines that were read.
    log_position: LogFollower,
    answer_event_id: Option<u64>,
    /// Connection on which the request was last sent to the agent, and the time.
    last_sent: Option<(ConnectionNumber, Instant)>,
}

impl ActiveRequest {
    fn new() -> Self {
        Self { log_position: LogFollower::new(), answer_event_id: None, last_sent: None }
    }

    fn next_action(&self, request: &LimitRequest, status: &JobStatus, now: Instant) -> NextAction {
        let is_applied = request.target_ms.is_some() && request.target_ms <= status.spec_ms;
        match &status.assignment {
            None => NextAction::Done(None),
            Some(_) if self.answer_event_id.is_some() => NextAction::Done(self.answer_event_id),
            Some(_) if is_applied => NextAction::Done(None),
            Some(Assignment::Queued) if request.is_for_step => NextAction::Wait,
            Some(Assignment::Queued) => match (request.target_ms, status.spec_ms) {
                (Some(to_ms), _) => NextAction::WriteSpecLimit(to_ms),
                (None, Some(now_ms)) => NextAction::StoreTargetLimit(now_ms.saturating_add(request.by_ms)),
                (None, None) => NextAction::Wait,
            },
            // The agent has not answered the offer yet.
            Some(Assignment::AwaitingBox(_) | Assignment::Offered(_)) => NextAction::Wait,
            Some(Assignment::Running(_)) => match (status.connection, self.last_sent) {
                // A live agent would have answered by now, and the answer would be recorded. So there was no limit to
                // extend.
                (Some(connection), Some((sent_connection, at))) if sent_connection == connection => {
                    if now.duration_since(at) >= DEAD_AFTER {
                        NextAction::Done(None)
                    } else {
                        NextAction::Wait
                    }
                }
                (Some(_), _) if status.has_caught_up => NextAction::SendRequest,
                _ => NextAction::Wait,
            },
        }
    }
}

impl Extensions {
    /// Returns the active ones among `requests`: the oldest of each job. Drops the progress of all others.
    pub(super) fn active_requests(&mut self, requests: &[LimitRequest]) -> Vec<LimitRequest> {
        let mut oldest: Vec<LimitRequest> = Vec::new();
        for request in requests {
            if oldest.iter().all(|other| other.job != request.job) {
                oldest.push(request.clone());
            }
        }
        self.requests.retain(|path, _| oldest.iter().any(|request| request.path == *path));
        oldest
    }

    /// Returns the position in the job's event log up to which lines were read for a request.
    pub(super) fn log_position(&self, path: &Path) -> LogFollower {
        self.requests.get(path).map_or_else(LogFollower::new, |active| active.log_position.clone())
    }

    /// Returns the next action for an active request. `lines` are the new lines of the job's event log, up to
    /// `log_position`.
    pub(super) fn next_action(
        &mut self,
        request: &LimitRequest,
        status: &JobStatus,
        log_position: LogFollower,
        lines: &[EventLine],
        now: Instant,
    ) -> NextAction {
        let active = self.requests.entry(request.path.clone()).or_insert_with(ActiveRequest::new);
        active.log_position = log_position;
        active.answer_event_id = active.answer_event_id.or_else(|| find_answer(request, lines));
        active.next_action(request, status, now)
    }

    /// Records that a request was sent on the agent's connection.
    pub(super) fn set_sent(&mut self, path: &Path, connection: ConnectionNumber, now: Instant) {
        if let Some(active) = self.requests.get_mut(path) {
            active.last_sent = Some((connection, now));
        }
    }
}

/// Returns the id of the event that answers a request, if one of the lines contains it.
fn find_answer(request: &LimitRequest, lines: &[EventLine]) -> Option<u64> {
    lines
        .iter()
        .find(|line| line.id > request.after_event_id && is_answer(request.is_for_step, line))
        .map(|line| line.id)
}

/// Returns true if an event confirms the extension of a limit: of a step if `of_step`, else of the job.
fn is_answer(of_step: bool, line: &EventLine) -> bool {
    let body = line.event.as_ref().map(|event| &event.body);
    matches!(body, Some(EventBody::Extended { n, .. }) if n.is_some() == of_step)
}

#[cfg(test)]
#[path = "extend_tests.rs"]
mod tests;
