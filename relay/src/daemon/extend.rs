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

use super::message::SessionId;
use super::scheduler::Place;
use crate::registry::event_log::Follower;
use crate::registry::file_ref::FileRef;

/// A request to move a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
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
pub(super) struct Facts {
    /// Place of the job; `None` once it has ended.
    pub(super) place: Option<Place>,
    /// Connection of the job's agent, if it is connected.
    pub(super) session: Option<SessionId>,
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
    turns: BTreeMap<PathBuf, Turn>,
}

struct Turn {
    follower: Follower,
    answer: Option<u64>,
    sent: Option<(SessionId, Instant)>,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("answer", &self.answer).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Turn {
    fn new() -> Self {
        Self { follower: Follower::new(), answer: None, sent: None }
    }

    /// Reads what was added to the job's log.
    fn read(&mut self, ask: &Ask, log: &FileRef) {
        match self.follower.next_lines(log) {
            Ok(lines) => {
                self.answer = self.answer.or_else(|| answer(ask, lines.iter().map(|(_, line)| line)));
            }
            Err(e) => tracing::warn!("the log of {} can't be read: {e}", ask.job),
        }
    }

    fn next(&self, ask: &Ask, facts: &Facts, now: Instant) -> Next {
        let moved = ask.to_ms.is_some() && ask.to_ms <= facts.spec_ms;
        match &facts.place {
            None => Next::Done(None),
            Some(_) if self.answer.is_some() => Next::Done(self.answer),
            Some(_) if moved => Next::Done(None),
            Some(Place::Waiting) if ask.step => Next::Wait,
            Some(Place::Waiting) => match (ask.to_ms, facts.spec_ms) {
                (Some(to_ms), _) => Next::Move(to_ms),
                (None, Some(now_ms)) => Next::Promise(now_ms.saturating_add(ask.by_ms)),
                (None, None) => Next::Wait,
            },
            // The agent's answer to the offer decides.
            Some(Place::Offered(_)) => Next::Wait,
            Some(Place::Running(_)) => match (facts.session, self.sent) {
                // Events that arrived on a live connection are recorded by now: there was nothing to move.
                (Some(session), Some((through, at))) if through == session => {
                    if now.duration_since(at) >= DEAD_AFTER { Next::Done(None) } else { Next::Wait }
                }
                (Some(_), _) if facts.caught_up => Next::Send,
                _ => Next::Wait,
            },
        }
    }
}

impl Extensions {
    /// Forgets all requests but these, and returns those whose turn it is: the oldest of each job.
    pub(super) fn turns(&mut self, asks: &[Ask]) -> Vec<Ask> {
        let mut first: Vec<Ask> = Vec::new();
        for ask in asks {
            if first.iter().all(|other| other.job != ask.job) {
                first.push(ask.clone());
            }
        }
        self.turns.retain(|path, _| first.iter().any(|ask| ask.path == *path));
        first
    }

    /// Returns the next action for a request whose turn it is; `log` is its job's event log.
    pub(super) fn next(&mut self, ask: &Ask, facts: &Facts, log: &FileRef, now: Instant) -> Next {
        let turn = self.turns.entry(ask.path.clone()).or_insert_with(Turn::new);
        turn.read(ask, log);
        turn.next(ask, facts, now)
    }

    /// Records that a request was sent on the agent's connection.
    pub(super) fn sent(&mut self, ask: &Ask, session: SessionId, now: Instant) {
        if let Some(turn) = self.turns.get_mut(&ask.path) {
            turn.sent = Some((session, now));
        }
    }
}

/// Returns the id of the event that answers a request.
fn answer<'a>(ask: &Ask, lines: impl IntoIterator<Item = &'a EventLine>) -> Option<u64> {
    lines.into_iter().find(|line| line.id > ask.after && answers(ask.step, line)).map(|line| line.id)
}

fn answers(step: bool, line: &EventLine) -> bool {
    let body = line.event.as_ref().map(|event| &event.body);
    matches!(body, Some(EventBody::Extended { n, .. }) if n.is_some() == step)
}

#[cfg(test)]
#[path = "extend_tests.rs"]
mod tests;
