//! Requests to move limits: each limit is moved once, even across crashes. Pure.
//!
//! ```text
//!          job is queued
//!  filed ─────────────────────────► Promise (the new limit, into the request) ──► Move (it, into the spec) ──► Done
//!    │     the agent has the job
//!    └────────────────────────────► Send ──► sent ── an `extended` event after the request ───────────────► Done
//!                                    ▲         ├──── the connection lives on without one: nothing to move ──► Done
//!                                    └─────────┘ the connection ended, the agent is back, and its older events lack it
//! ```
//!
//! The requests of one job take turns, so that an event can only answer the request whose turn it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::wire::DEAD_AFTER;
use tokio::time::Instant;

use super::connections::ConnectionNumber;
use super::scheduler::Assignment;
use crate::registry::event_log::Follower;

/// A request to move a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct LimitRequest {
    /// Path of the request's file.
    pub(in crate::daemon) path: PathBuf,
    /// Job whose limit moves.
    pub(in crate::daemon) job: JobId,
    /// True for the limit of the job's step, false for that of the job.
    pub(in crate::daemon) step: bool,
    /// Extension, in milliseconds.
    pub(in crate::daemon) by_ms: u64,
    /// Id of the newest event that can't be the answer.
    pub(in crate::daemon) after: u64,
    /// New limit that the request has promised to the spec of a queued job.
    pub(in crate::daemon) to_ms: Option<u64>,
}

/// Facts to read before deciding about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct LimitQuery {
    /// Path of the request's file.
    pub(in crate::daemon) path: PathBuf,
    /// Job whose limit moves.
    pub(in crate::daemon) job: JobId,
    /// Position in the job's log after the lines that were read before.
    pub(in crate::daemon) log: Follower,
    /// True if the limit must be read from the job's spec.
    pub(in crate::daemon) wants_spec: bool,
    /// True if the newest durable event must be read from the job's record.
    pub(in crate::daemon) wants_record: bool,
}

/// Facts that decide about a request.
#[derive(Debug)]
pub(in crate::daemon) struct LimitFacts {
    /// Path of the request's file.
    pub(in crate::daemon) path: PathBuf,
    /// Position in the job's log after `lines`.
    pub(in crate::daemon) log: Follower,
    /// New lines of the job's log.
    pub(in crate::daemon) lines: Vec<EventLine>,
    /// Limit of the job in its spec, in milliseconds.
    pub(in crate::daemon) spec_ms: Option<u64>,
    /// Run and newest event in the job's record.
    pub(in crate::daemon) durable: Option<(u32, u64)>,
}

/// State of the job, beside the request.
#[derive(Debug, Clone)]
pub(super) struct JobStatus {
    /// Assignment of the job; `None` once it has ended.
    pub(super) assignment: Option<Assignment>,
    /// Connection of the job's agent, if it is connected.
    pub(super) connection: Option<ConnectionNumber>,
    /// True if everything that the agent had of the job when it connected is recorded.
    pub(super) caught_up: bool,
    /// Limit of the job in its spec, in milliseconds.
    pub(super) spec_ms: Option<u64>,
}

/// Next action for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    /// Send the request to the agent.
    Send,
    /// Write this limit into the request, so that a crash can't move it twice.
    Promise(u64),
    /// Write this limit into the spec.
    Move(u64),
    /// Remove the request, with the id of the event that answered it, if there was one.
    Done(Option<u64>),
}

/// Requests whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    active: BTreeMap<PathBuf, ActiveRequest>,
}

#[derive(Debug)]
struct ActiveRequest {
    /// Position in the job's log.
    log: Follower,
    answer: Option<u64>,
    sent: Option<(ConnectionNumber, Instant)>,
}

impl ActiveRequest {
    fn new() -> Self {
        Self { log: Follower::new(), answer: None, sent: None }
    }

    fn next(&self, request: &LimitRequest, status: &JobStatus, now: Instant) -> Next {
        let moved = request.to_ms.is_some() && request.to_ms <= status.spec_ms;
        match &status.assignment {
            None => Next::Done(None),
            Some(_) if self.answer.is_some() => Next::Done(self.answer),
            Some(_) if moved => Next::Done(None),
            Some(Assignment::Queued) if request.step => Next::Wait,
            Some(Assignment::Queued) => match (request.to_ms, status.spec_ms) {
                (Some(to_ms), _) => Next::Move(to_ms),
                (None, Some(now_ms)) => Next::Promise(now_ms.saturating_add(request.by_ms)),
                (None, None) => Next::Wait,
            },
            // The agent's answer to the offer decides.
            Some(Assignment::Offered(_)) => Next::Wait,
            Some(Assignment::Running(_)) => match (status.connection, self.sent) {
                // Events that arrived on a live connection are recorded by now: there was nothing to move.
                (Some(connection), Some((through, at))) if through == connection => {
                    if now.duration_since(at) >= DEAD_AFTER { Next::Done(None) } else { Next::Wait }
                }
                (Some(_), _) if status.caught_up => Next::Send,
                _ => Next::Wait,
            },
        }
    }
}

impl Extensions {
    /// Forgets all requests but these, and returns those whose turn it is: the oldest of each job.
    pub(super) fn active_requests(&mut self, requests: &[LimitRequest]) -> Vec<LimitRequest> {
        let mut first: Vec<LimitRequest> = Vec::new();
        for request in requests {
            if first.iter().all(|other| other.job != request.job) {
                first.push(request.clone());
            }
        }
        self.active.retain(|path, _| first.iter().any(|request| request.path == *path));
        first
    }

    /// Returns the position up to which a request's handler has read the log of its job.
    pub(super) fn position(&self, path: &Path) -> Follower {
        self.active.get(path).map_or_else(Follower::new, |active| active.log.clone())
    }

    /// Returns the next action for a request whose turn it is; `lines` are the new ones of its job's log, up to `log`.
    pub(super) fn next(
        &mut self,
        request: &LimitRequest,
        status: &JobStatus,
        log: Follower,
        lines: &[EventLine],
        now: Instant,
    ) -> Next {
        let active = self.active.entry(request.path.clone()).or_insert_with(ActiveRequest::new);
        active.log = log;
        active.answer = active.answer.or_else(|| answer(request, lines));
        active.next(request, status, now)
    }

    /// Records that a request was sent on the agent's connection.
    pub(super) fn sent(&mut self, path: &Path, connection: ConnectionNumber, now: Instant) {
        if let Some(active) = self.active.get_mut(path) {
            active.sent = Some((connection, now));
        }
    }
}

/// Returns the id of the event that answers a request.
fn answer(request: &LimitRequest, lines: &[EventLine]) -> Option<u64> {
    lines.iter().find(|line| line.id > request.after && answers(request.step, line)).map(|line| line.id)
}

fn answers(step: bool, line: &EventLine) -> bool {
    let body = line.event.as_ref().map(|event| &event.body);
    matches!(body, Some(EventBody::Extended { n, .. }) if n.is_some() == step)
}

#[cfg(test)]
#[path = "extend_tests.rs"]
mod tests;
