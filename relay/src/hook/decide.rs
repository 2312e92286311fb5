//! What follows from an event, and whom an end belongs to.

use std::time::Duration;

use jiff::Timestamp;

use super::call::{Call, Event};
use crate::registry::outbox::Entry;
use crate::registry::sessions::{Phase, State};

/// How long a session that says nothing keeps its ends: after that anybody is told.
const SILENT: Duration = Duration::from_secs(3600);

/// What a call leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What the session does now; `None` where the call does not tell.
    pub phase: Option<Phase>,
    /// What it is given.
    pub give: Give,
}

/// What a session is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Give {
    /// Nothing.
    Nothing,
    /// Its ends and those of nobody, as context of what it does anyway.
    Context(Event),
    /// Its ends, as a reason to go on with the turn and tell its user.
    Reason,
}

/// Decides what follows from a call.
pub fn plan(call: &Call) -> Plan {
    let nothing = |phase| Plan { phase, give: Give::Nothing };
    let Some(event) = call.event.filter(|_| !call.subagent) else { return nothing(None) };
    match event {
        Event::SessionStart => {
            let phase = if call.compacted { Phase::Busy } else { Phase::Idle };
            Plan { phase: Some(phase), give: Give::Context(event) }
        }
        Event::UserPromptSubmit | Event::PostToolUse => {
            Plan { phase: Some(Phase::Busy), give: Give::Context(event) }
        }
        Event::PreToolUse => nothing(Some(Phase::Busy)),
        // A turn is held once: a session must come to its end.
        Event::Stop if call.held => nothing(Some(Phase::Idle)),
        Event::Stop => Plan { phase: Some(Phase::Idle), give: Give::Reason },
        Event::Interrupt => nothing(Some(Phase::Idle)),
        Event::SessionEnd => nothing(Some(Phase::Over)),
    }
}

/// Whom an end belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The session that asks.
    Own,
    /// Nobody who could still be told.
    Nobodys,
    /// Another session, which is left to tell its user.
    Anothers,
}

/// Tells whom an end belongs to, for the session `own`. `state` knows sessions by their id.
pub fn whose(entry: &Entry, own: &str, state: impl Fn(&str) -> Option<State>, now: Timestamp) -> Whose {
    let Some(session) = &entry.session else { return Whose::Nobodys };
    if session.id == own {
        return Whose::Own;
    }
    let state = state(&session.id);
    let over = state.as_ref().is_some_and(|state| state.phase == Phase::Over);
    // A session without hooks is never heard of; it has had its time when the end is that old.
    let heard = state.map_or(entry.ended_at, |state| state.at.max(entry.ended_at));
    let silent = Duration::try_from(now.duration_since(heard)).is_ok_and(|silent| silent >= SILENT);
    if over || silent { Whose::Nobodys } else { Whose::Anothers }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
