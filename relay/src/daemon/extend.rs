//! Requests to move limits: each limit is moved once, even across crashes. Pure except for reading logs.
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
use std::path::PathBuf;

use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::wire::DEAD_AFTER;
use tokio::time::Instant;

use super::message::ConnectionNumber;
use super::scheduler::Assignment;
use crate::files::file_ref::FileRef;
use crate::registry::event_log::Follower;

/// A request to move a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LimitRequest {
    /// Path of the request's file.
    pub(super) path: PathBuf,
    /// Job whose limit moves.
    pub(super) job: JobId,
    /// True for the limit of the job's step, false for that of the job.
    pub(super) step: bool,
    /// Extension, in milliseconds.
    pub(super) by_ms: u64,
    /// Id of the newest event that can't be the answer.
    pub(super) after: u64,
    /// New limit that the request has promised to the spec of a queued job.
    pub(super) to_ms: Option<u64>,
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
    /// Wait.
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

struct ActiveRequest {
    follower: Follower,
    answer: Option<u64>,
    sent: Option<(ConnectionNumber, Instant)>,
}

impl std::fmt::Debug for ActiveRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("answer", &self.answer).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl ActiveRequest {
    fn new() -> Self {
        Self { follower: Follower::new(), answer: None, sent: None }
    }

    /// Reads what was added to the job's log.
    fn read(&mut self, request: &LimitRequest, log: &FileRef) {
        match self.follower.next_lines(log) {
            Ok(lines) => {
                self.answer = self.answer.or_else(|| answer(request, lines.iter().map(|(_, line)| line)));
            }
            Err(e) => tracing::warn!("the log of {} can't be read: {e}", request.job),
        }
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

    /// Returns the next action for a request whose turn it is; `log` is its job's event log.
    pub(super) fn next(
        &mut self,
        request: &LimitRequest,
        status: &JobStatus,
        log: &FileRef,
        now: Instant,
    ) -> Next {
        let turn = self.active.entry(request.path.clone()).or_insert_with(ActiveRequest::new);
        turn.read(request, log);
        turn.next(request, status, now)
    }

    /// Records that a request was sent on the agent's connection.
    pub(super) fn sent(&mut self, request: &LimitRequest, connection: ConnectionNumber, now: Instant) {
        if let Some(turn) = self.active.get_mut(&request.path) {
            turn.sent = Some((connection, now));
        }
    }
}

/// Returns the id of the event that answers a request.
fn answer<'a>(request: &LimitRequest, lines: impl IntoIterator<Item = &'a EventLine>) -> Option<u64> {
    lines.into_iter().find(|line| line.id > request.after && answers(request.step, line)).map(|line| line.id)
}

fn answers(step: bool, line: &EventLine) -> bool {
    let body = line.event.as_ref().map(|event| &event.body);
    matches!(body, Some(EventBody::Extended { n, .. }) if n.is_some() == step)
}

#[cfg(test)]
#[path = "extend_tests.rs"]
mod tests;
