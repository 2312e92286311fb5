//! Decision about the call of a hook, owner of a completion notice, and JSON of the answer.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::{HookCall, HookEvent};
use crate::registry::outbox::OutboxEntry;
use crate::registry::sessions::{SessionPhase, SessionState};

/// Time without a call from a session's hooks after which any session may receive the notices of that session.
const SESSION_SILENCE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Decision about the call of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookDecision {
    /// New phase of the session; `None` if the call does not reveal it.
    pub phase: Option<SessionPhase>,
    /// Answer to the call.
    pub response: HookResponse,
}

/// Answer to the call of a hook: the notices to deliver, and how.
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
    let without_answer = |phase| HookDecision { phase, response: HookResponse::Nothing };
    let Some(event) = call.event.filter(|_| !call.is_from_subagent) else { return without_answer(None) };
    match event {
        HookEvent::SessionStart => {
            let phase = if call.was_compacted { SessionPhase::Busy } else { SessionPhase::Idle };
            HookDecision { phase: Some(phase), response: HookResponse::Context(event) }
        }
        HookEvent::UserPromptSubmit | HookEvent::PostToolUse => {
            HookDecision { phase: Some(SessionPhase::Busy), response: HookResponse::Context(event) }
        }
        HookEvent::PreToolUse => without_answer(Some(SessionPhase::Busy)),
        // A turn is continued only once, so that a session can end.
        HookEvent::Stop if call.was_continued_by_hook => without_answer(Some(SessionPhase::Idle)),
        HookEvent::Stop => {
            HookDecision { phase: Some(SessionPhase::Idle), response: HookResponse::ContinueTurn }
        }
        HookEvent::Interrupt => without_answer(Some(SessionPhase::Idle)),
        HookEvent::SessionEnd => without_answer(Some(SessionPhase::Over)),
    }
}

/// Owner of a completion notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeOwner {
    /// The calling session.
    Caller,
    /// No session: none launched the job, or the session that did has ended or is silent. Any session may show the
    /// notice.
    Unowned,
    /// Another session, which informs its own user.
    Other,
}

/// Returns the owner of a notice, relative to the calling session. `session_state` looks up a session by its id.
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
    let has_ended = state.as_ref().is_some_and(|state| state.phase == SessionPhase::Over);
    // A session without hooks never reports, so its silence is measured from the end of the job.
    let last_active = state.map_or(entry.ended_at, |state| state.at.max(entry.ended_at));
    let is_silent = Duration::try_from(now.duration_since(last_active))
        .is_ok_and(|silent| silent >= SESSION_SILENCE_TIMEOUT);
    if has_ended || is_silent { NoticeOwner::Unowned } else { NoticeOwner::Other }
}

/// Text in front of the notices that continue a turn.
const CONTINUATION_HEADING: &str =
    "Before you stop: what you delegated has ended. Tell your user what came of it.";

/// Builds the JSON that passes `text` to the session; `None` if nothing is passed.
pub fn response_json(response: HookResponse, text: &str) -> Option<Value> {
    match response {
        HookResponse::Nothing => None,
        HookResponse::Context(event) => Some(json!({
            "hookSpecificOutput": {"hookEventName": event.name(), "additionalContext": text}
        })),
        HookResponse::ContinueTurn => {
            Some(json!({"decision": "block", "reason": format!("{CONTINUATION_HEADING}\n\n{text}")}))
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
