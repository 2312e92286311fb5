//! Decisions for a hook event, the owner of a completion notice, and the JSON of the answer.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::{Call, Event};
use crate::registry::outbox::Entry;
use crate::registry::sessions::{Phase, SessionState};

/// Silence after which a session loses its notices: they are given to any session then.
const SILENT: Duration = Duration::from_secs(3600);

/// Decision for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// New phase of the session; `None` if the call does not reveal it.
    pub phase: Option<Phase>,
    /// Notices to deliver.
    pub give: Response,
}

/// Delivery to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// No delivery.
    Nothing,
    /// Its own notices and those without an owner, as context.
    Context(Event),
    /// Its own notices, as a reason to continue the turn and inform its user.
    Reason,
}

/// Decides what a call leads to.
pub fn plan(call: &Call) -> Plan {
    let nothing = |phase| Plan { phase, give: Response::Nothing };
    let Some(event) = call.event.filter(|_| !call.subagent) else { return nothing(None) };
    match event {
        Event::SessionStart => {
            let phase = if call.compacted { Phase::Busy } else { Phase::Idle };
            Plan { phase: Some(phase), give: Response::Context(event) }
        }
        Event::UserPromptSubmit | Event::PostToolUse => {
            Plan { phase: Some(Phase::Busy), give: Response::Context(event) }
        }
        Event::PreToolUse => nothing(Some(Phase::Busy)),
        // A turn is continued only once: a session must be able to end.
        Event::Stop if call.held => nothing(Some(Phase::Idle)),
        Event::Stop => Plan { phase: Some(Phase::Idle), give: Response::Reason },
        Event::Interrupt => nothing(Some(Phase::Idle)),
        Event::SessionEnd => nothing(Some(Phase::Over)),
    }
}

/// Owner of a completion notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeOwner {
    /// The calling session.
    Own,
    /// No session that can still be notified.
    Nobodys,
    /// Another session, which informs its own user.
    Anothers,
}

/// Returns the owner of a notice, from the view of the session `own`. `state` looks up sessions by their id.
pub fn whose(
    entry: &Entry,
    own: &str,
    state: impl Fn(&str) -> Option<SessionState>,
    now: Timestamp,
) -> NoticeOwner {
    let Some(session) = &entry.session else { return NoticeOwner::Nobodys };
    if session.id == own {
        return NoticeOwner::Own;
    }
    let state = state(&session.id);
    let over = state.as_ref().is_some_and(|state| state.phase == Phase::Over);
    // A session without hooks never reports; its time runs from the end of the job.
    let heard = state.map_or(entry.ended_at, |state| state.at.max(entry.ended_at));
    let silent = Duration::try_from(now.duration_since(heard)).is_ok_and(|silent| silent >= SILENT);
    if over || silent { NoticeOwner::Nobodys } else { NoticeOwner::Anothers }
}

/// Text in front of the notices that continue a turn.
const BEFORE_YOU_STOP: &str =
    "Before you stop: what you delegated has ended. Tell your user what came of it.";

/// Builds the JSON that gives `text` to the session; `None` if nothing is given.
pub fn response(give: Response, text: &str) -> Option<Value> {
    match give {
        Response::Nothing => None,
        Response::Context(event) => Some(json!({
            "hookSpecificOutput": {"hookEventName": event.name(), "additionalContext": text}
        })),
        Response::Reason => {
            Some(json!({"decision": "block", "reason": format!("{BEFORE_YOU_STOP}\n\n{text}")}))
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
