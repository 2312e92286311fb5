//! Decisions for a hook event, the owner of a completion notice, and the JSON of the answer.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::{HookCall, HookEvent};
use crate::registry::outbox::OutboxEntry;
use crate::registry::sessions::{SessionPhase, SessionState};

/// Silence of a session after which any session receives its notices.
const SESSION_SILENCE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Decision for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookDecision {
    /// New phase of the session; `None` if the call does not reveal it.
    pub phase: Option<SessionPhase>,
    /// Notices to deliver.
    pub response: HookResponse,
}

/// Delivery to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookResponse {
    /// No delivery.
    Nothing,
    /// The session's own notices and notices without an owner, as context.
    Context(HookEvent),
    /// The session's own notices, as a reason to continue the turn and inform its user.
    ContinueTurn,
}

/// Decides the phase and the response for a call.
pub fn decide_hook(call: &HookCall) -> HookDecision {
    let nothing = |phase| HookDecision { phase, response: HookResponse::Nothing };
    let Some(event) = call.event.filter(|_| !call.subagent) else { return nothing(None) };
    match event {
        HookEvent::SessionStart => {
            let phase = if call.was_compacted { SessionPhase::Busy } else { SessionPhase::Idle };
            HookDecision { phase: Some(phase), response: HookResponse::Context(event) }
        }
        HookEvent::UserPromptSubmit | HookEvent::PostToolUse => {
            HookDecision { phase: Some(SessionPhase::Busy), response: HookResponse::Context(event) }
        }
        HookEvent::PreToolUse => nothing(Some(SessionPhase::Busy)),
        // A turn is continued only once, so that a session can end.
        HookEvent::Stop if call.continued_by_hook => nothing(Some(SessionPhase::Idle)),
        HookEvent::Stop => {
            HookDecision { phase: Some(SessionPhase::Idle), response: HookResponse::ContinueTurn }
        }
        HookEvent::Interrupt => nothing(Some(SessionPhase::Idle)),
        HookEvent::SessionEnd => nothing(Some(SessionPhase::Over)),
    }
}

/// Owner of a completion notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeOwner {
    /// The calling session.
    Caller,
    /// No session, because no session that could be notified is left. Any session may show the notice.
    Unowned,
    /// Another session, which informs its own user.
    Other,
}

/// Returns the owner of a notice, relative to the calling session. `session_state` looks up sessions by id.
pub fn notice_owner(
    entry: &OutboxEntry,
    calling_session: &str,
    session_state: impl Fn(&str) -> Option<SessionState>,
    now: Timestamp,
) -> NoticeOwner {
    let Some(session) = &entry.session else { return NoticeOwner::Unowned };
    if session.id == calling_session {
        return NoticeOwner::Caller;
    }
    let state = session_state(&session.id);
    let over = state.as_ref().is_some_and(|state| state.phase == SessionPhase::Over);
    // A session without hooks never reports, so its silence is measured from the end of the job.
    let last_active = state.map_or(entry.ended_at, |state| state.at.max(entry.ended_at));
    let silent = Duration::try_from(now.duration_since(last_active))
        .is_ok_and(|silent| silent >= SESSION_SILENCE_TIMEOUT);
    if over || silent { NoticeOwner::Unowned } else { NoticeOwner::Other }
}

/// Text in front of the notices that continue a turn.
const BEFORE_YOU_STOP: &str =
    "Before you stop: what you delegated has ended. Tell your user what came of it.";

/// Builds the JSON that passes `text` to the session; `None` if nothing is passed.
pub fn response_json(kind: HookResponse, text: &str) -> Option<Value> {
    match kind {
        HookResponse::Nothing => None,
        HookResponse::Context(event) => Some(json!({
            "hookSpecificOutput": {"hookEventName": event.name(), "additionalContext": text}
        })),
        HookResponse::ContinueTurn => {
            Some(json!({"decision": "block", "reason": format!("{BEFORE_YOU_STOP}\n\n{text}")}))
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
