//! Call of `relay hook` by a host agent: the name of an event, and JSON on stdin.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::registry::sessions::is_session_id;

/// Event of a host agent that relay handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
pub enum HookEvent {
    /// A session was started, resumed or cleared, or its context was compacted.
    SessionStart,
    /// The user submitted a prompt.
    UserPromptSubmit,
    /// A tool is about to run.
    PreToolUse,
    /// A tool has run.
    PostToolUse,
    /// The turn is about to end.
    Stop,
    /// The user interrupted the turn.
    Interrupt,
    SessionEnd,
}

impl HookEvent {
    /// Name of the event, the same in Codex and in Claude Code.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Call of `relay hook` by a host agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// Event; `None` for an event that relay does not handle.
    pub event: Option<HookEvent>,
    /// Id of the calling session.
    pub session: String,
    /// Calling program: `codex` or `claude`.
    pub agent: &'static str,
    /// Working directory of the calling session.
    pub cwd: PathBuf,
    /// True if the session's context was compacted, which happens within a turn.
    pub was_compacted: bool,
    /// True if the turn continues only because of a Stop hook.
    pub was_continued_by_hook: bool,
    /// True for a call by a subagent of the session, which can't address the user.
    pub is_from_subagent: bool,
}

/// Fields of a call's JSON that relay reads; all others are ignored.
#[derive(Deserialize)]
struct RawCall {
    session_id: String,
    cwd: PathBuf,
    hook_event_name: Option<String>,
    source: Option<String>,
    stop_hook_active: Option<bool>,
    agent_id: Option<Value>,
    transcript_path: Option<PathBuf>,
    turn_id: Option<Value>,
}

/// Parses a call. `event` is the event named on the command line; `is_in_claude_env` is true in the environment of
/// Claude Code.
///
/// # Errors
/// Returns a short reason why the JSON is not the call of a hook.
pub fn parse_call(event: Option<&str>, json: &[u8], is_in_claude_env: bool) -> Result<HookCall, String> {
    let raw: RawCall = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if !is_session_id(&raw.session_id) {
        return Err("session_id is not an id".to_owned());
    }
    let agent = if is_in_claude_env && !is_codex_call(&raw) { "claude" } else { "codex" };
    let event = event.or(raw.hook_event_name.as_deref());
    Ok(HookCall {
        event: event.and_then(|name| name.parse().ok()),
        session: raw.session_id,
        agent,
        cwd: raw.cwd,
        was_compacted: raw.source.as_deref() == Some("compact"),
        was_continued_by_hook: raw.stop_hook_active.unwrap_or(false),
        is_from_subagent: raw.agent_id.is_some(),
    })
}

/// Returns true if Codex made the call. A Codex that Claude Code started has the environment of Claude Code, but the
/// calls of Codex contain the id of a turn, and the names of its transcripts begin with `rollout-`.
fn is_codex_call(raw: &RawCall) -> bool {
    let transcript = raw.transcript_path.as_deref().and_then(Path::file_name).unwrap_or_default();
    raw.turn_id.is_some() || transcript.to_string_lossy().starts_with("rollout-")
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
