//! State of the sessions of host agents: `sessions/ID.json`, written by the hooks that they call.
//!
//! ```text
//!          a prompt, a tool call             the turn ends, or is interrupted
//! idle ──────────────────────────► busy ──────────────────────────────────────► idle ─ the session ends ─► over
//! ```

use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Registry;
use crate::files::atomic::Durability;

/// Version of the JSON of a session's state.
pub const SCHEMA_VERSION: u32 = 1;
/// Maximum length of a session id, in bytes. Codex and Claude Code use UUIDs.
const MAX_ID: usize = 64;
/// Maximum size of the file with a session's state, in bytes.
const MAX_FILE_SIZE: u64 = 64 << 10;
/// Time for which a session's state is kept after the session's last hook call.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// State of a session, as reported by its last hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    /// Version of the JSON: [`SCHEMA_VERSION`].
    pub schema: u32,
    /// Host agent: `codex` or `claude`.
    pub agent: String,
    /// Id of the session; Codex calls it thread.
    pub id: String,
    pub phase: SessionPhase,
    /// Time of the session's last hook call.
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionPhase {
    /// The session waits for its user.
    Idle,
    /// The session is in a turn: its next hook delivers pending notices.
    Busy,
    /// The session has ended. It may be resumed.
    Over,
}

impl SessionState {
    /// Returns true if a turn is known to be in progress.
    pub fn is_busy(&self) -> bool {
        self.phase == SessionPhase::Busy
    }
}

/// Returns true if a text can be a session id. Any other text must never become part of a path or an argument of
/// another program.
pub fn is_session_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= MAX_ID
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Records the state of a session.
///
/// # Errors
/// `InvalidInput` for an invalid id; otherwise the error of the first failing call.
pub fn store_session(registry: &Registry, state: &SessionState) -> io::Result<()> {
    if !is_session_id(&state.id) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    registry.session(&state.id).replace(&serde_json::to_vec(state)?, Durability::Cached)
}

/// Returns the state of a session; `None` if it is unknown or unreadable.
pub fn read_session(registry: &Registry, id: &str) -> Option<SessionState> {
    let bytes = is_session_id(id).then(|| registry.session(id).read(MAX_FILE_SIZE).ok()).flatten()?;
    serde_json::from_slice(&bytes).ok()
}

/// Removes the state of sessions without a hook call for a week. A file that can't be removed stays until the next
/// call.
pub fn remove_old_sessions(registry: &Registry, now: SystemTime) {
    let folder = registry.sessions();
    for name in folder.names().unwrap_or_default() {
        let file = folder.file(name);
        let modified_at = file.metadata().and_then(|metadata| metadata.modified());
        let age = modified_at.ok().and_then(|modified_at| now.duration_since(modified_at).ok());
        if age.is_some_and(|age| age > RETENTION) {
            // Removing fails if another hook has removed the file first.
            let _ = file.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(id: &str, phase: SessionPhase) -> SessionState {
        SessionState {
            schema: SCHEMA_VERSION,
            agent: "codex".to_owned(),
            id: id.to_owned(),
            phase,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_last_stored_state_of_a_session_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::for_project(dir.path());
        assert_eq!(read_session(&registry, "s1"), None);
        registry.ensure().unwrap();
        for phase in [SessionPhase::Busy, SessionPhase::Idle, SessionPhase::Over] {
            store_session(&registry, &state("s1", phase)).unwrap();
            assert_eq!(read_session(&registry, "s1"), Some(state("s1", phase)));
        }
        assert!(state("s1", SessionPhase::Busy).is_busy());
    }

    #[test]
    fn a_text_that_could_be_a_flag_or_a_path_is_no_session_id() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::for_project(dir.path());
        for id in ["", "--resume", "../x", "a b", "a/b", &"a".repeat(65)] {
            assert!(!is_session_id(id), "{id}");
            assert_eq!(
                store_session(&registry, &state(id, SessionPhase::Busy)).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
            assert_eq!(read_session(&registry, id), None);
        }
        assert!(is_session_id("01a203ca-9b3a-74f0-a0f9-92040009a617"));
    }

    #[test]
    fn the_state_of_a_session_is_removed_after_a_week() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::for_project(dir.path());
        remove_old_sessions(&registry, SystemTime::now());
        registry.ensure().unwrap();
        store_session(&registry, &state("s1", SessionPhase::Idle)).unwrap();
        remove_old_sessions(&registry, SystemTime::now() + RETENTION - Duration::from_secs(60));
        assert!(read_session(&registry, "s1").is_some());
        remove_old_sessions(&registry, SystemTime::now() + RETENTION + Duration::from_secs(60));
        assert_eq!(read_session(&registry, "s1"), None);
    }
}
