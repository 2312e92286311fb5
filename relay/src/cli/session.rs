//! Detection of the calling session of a host agent from the environment.

use std::env::VarError;

use common::origin::Session;

use crate::registry::sessions::is_session_id;

/// Maximum length of the path of a home folder, in bytes.
const MAX_HOME_LENGTH: usize = 4096;

/// Environment variable in which Codex passes the id of its session to each command.
pub const CODEX_THREAD_VARIABLE: &str = "CODEX_THREAD_ID";

/// Returns the session that runs this command. Codex sets `CODEX_THREAD_ID` for every command that it runs, Claude Code
/// (since 2.1.132) `CLAUDE_CODE_SESSION_ID`. For older versions of Claude Code, `relay hook SessionStart` sets
/// `RELAY_SESSION`.
pub fn calling_session(variable: &dyn Fn(&str) -> Result<String, VarError>) -> Option<Session> {
    let id = |name: &str| variable(name).ok().filter(|id| is_session_id(id));
    let home =
        |name: &str| variable(name).ok().filter(|home| !home.is_empty() && home.len() <= MAX_HOME_LENGTH);
    if let Some(id) = id(CODEX_THREAD_VARIABLE) {
        return Some(Session { agent: "codex".to_owned(), id, home: home("CODEX_HOME") });
    }
    let relay_session = || variable("RELAY_SESSION").ok()?.strip_prefix("claude:").map(str::to_owned);
    let id = id("CLAUDE_CODE_SESSION_ID").or_else(|| relay_session().filter(|id| is_session_id(id)))?;
    Some(Session { agent: "claude".to_owned(), id, home: home("CLAUDE_CONFIG_DIR") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_of(variables: &[(&str, &str)]) -> Option<Session> {
        calling_session(&|key| {
            let variable = variables.iter().find(|(name, _)| *name == key);
            variable.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        })
    }

    #[test]
    fn a_command_of_codex_belongs_to_its_thread() {
        let id = "01a203ca-9b3a-74f0-a0f9-92040009a617";
        let expected = Session { agent: "codex".to_owned(), id: id.to_owned(), home: None };
        assert_eq!(session_of(&[("CODEX_THREAD_ID", id)]), Some(expected.clone()));
        assert_eq!(
            session_of(&[("CODEX_THREAD_ID", id), ("CODEX_HOME", "/srv/codex")]),
            Some(Session { home: Some("/srv/codex".to_owned()), ..expected })
        );
        assert_eq!(session_of(&[]), None);
    }

    #[test]
    fn a_command_of_claude_code_belongs_to_its_session_unless_codex_runs_it() {
        let expected = |id: &str| Some(Session { agent: "claude".to_owned(), id: id.to_owned(), home: None });
        let claude_session = ("CLAUDE_CODE_SESSION_ID", "8c35adc1");
        let relay_session = ("RELAY_SESSION", "claude:00893aaf");
        assert_eq!(session_of(&[claude_session]), expected("8c35adc1"));
        assert_eq!(session_of(&[relay_session]), expected("00893aaf"));
        assert_eq!(session_of(&[relay_session, claude_session]), expected("8c35adc1"));
        assert_eq!(
            session_of(&[claude_session, ("CLAUDE_CONFIG_DIR", "/c")]).unwrap().home.as_deref(),
            Some("/c")
        );
        assert_eq!(session_of(&[("CODEX_THREAD_ID", "01a203ca"), claude_session]).unwrap().agent, "codex");
        assert_eq!(session_of(&[("RELAY_SESSION", "vim:1")]), None);
    }

    #[test]
    fn an_id_that_could_be_a_flag_or_a_path_is_no_session_id() {
        for id in ["", "--resume", "../x", "a b", &"a".repeat(65)] {
            assert_eq!(session_of(&[("CODEX_THREAD_ID", id)]), None, "{id}");
            assert_eq!(session_of(&[("CLAUDE_CODE_SESSION_ID", id)]), None, "{id}");
            assert_eq!(session_of(&[("RELAY_SESSION", &format!("claude:{id}"))]), None, "{id}");
        }
    }
}
