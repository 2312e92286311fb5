//! The call of a hook: an event's name and JSON on stdin.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::registry::sessions::is_id;

/// An event that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A session was started, resumed, cleared or compacted.
    SessionStart,
    /// Its user said something.
    UserPromptSubmit,
    /// A tool is about to run.
    PreToolUse,
    /// A tool has run.
    PostToolUse,
    /// The turn is about to end.
    Stop,
    /// The user interrupted the turn.
    Interrupt,
    /// The session is over.
    SessionEnd,
}

impl Event {
    const ALL: [Self; 7] = [
        Self::SessionStart,
        Self::UserPromptSubmit,
        Self::PreToolUse,
        Self::PostToolUse,
        Self::Stop,
        Self::Interrupt,
        Self::SessionEnd,
    ];

    /// The event of that name; `None` for all others.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }

    /// Its name, the same in Codex and in Claude Code.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionStart => "SessionStart",
            Self::UserPromptSubmit => "UserPromptSubmit",
            Self::PreToolUse => "PreToolUse",
            Self::PostToolUse => "PostToolUse",
            Self::Stop => "Stop",
            Self::Interrupt => "Interrupt",
            Self::SessionEnd => "SessionEnd",
        }
    }
}

/// What a hook was called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The event; `None` for one that means nothing here.
    pub event: Option<Event>,
    /// The session's id.
    pub session: String,
    /// Which program called: `codex` or `claude`.
    pub agent: &'static str,
    /// The session's folder.
    pub cwd: PathBuf,
    /// Whether the context was compacted, which happens within a turn.
    pub compacted: bool,
    /// Whether the turn goes on only because a Stop hook wanted that.
    pub held: bool,
    /// Whether a subagent of the session called: it can't talk to the user.
    pub subagent: bool,
}

/// The fields that matter; all others are passed over.
#[derive(Deserialize)]
struct Raw {
    session_id: String,
    cwd: PathBuf,
    hook_event_name: Option<String>,
    source: Option<String>,
    stop_hook_active: Option<bool>,
    agent_id: Option<Value>,
    transcript_path: Option<PathBuf>,
    turn_id: Option<Value>,
}

/// Reads a call. `event` is the event named on the command line, `claude` whether the environment is Claude Code's.
///
/// # Errors
/// Why this is no call of a hook, in a few words.
pub fn read(event: Option<&str>, json: &[u8], claude: bool) -> Result<Call, String> {
    let raw: Raw = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if !is_id(&raw.session_id) {
        return Err("session_id is no id".to_owned());
    }
    let agent = if claude && !is_of_codex(&raw) { "claude" } else { "codex" };
    let event = event.or(raw.hook_event_name.as_deref());
    Ok(Call {
        event: event.and_then(Event::named),
        session: raw.session_id,
        agent,
        cwd: raw.cwd,
        compacted: raw.source.as_deref() == Some("compact"),
        held: raw.stop_hook_active.unwrap_or(false),
        subagent: raw.agent_id.is_some(),
    })
}

/// Codex may run below Claude Code, and has its environment then; but its calls have turns, and its transcripts a
/// name of their own.
fn is_of_codex(raw: &Raw) -> bool {
    let transcript = raw.transcript_path.as_deref().and_then(Path::file_name).unwrap_or_default();
    raw.turn_id.is_some() || transcript.to_string_lossy().starts_with("rollout-")
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
