//! Which session of a host agent called, as its environment tells.

use std::env::VarError;

use common::origin::Session;

use crate::registry::sessions::is_id;

/// Longest path of a home, in bytes.
const MAX_HOME: usize = 4096;

/// The session whose command this is. Codex sets `CODEX_THREAD_ID` for every command that it runs.
pub fn session(variable: &dyn Fn(&str) -> Result<String, VarError>) -> Option<Session> {
    let id = variable("CODEX_THREAD_ID").ok().filter(|id| is_id(id))?;
    let home = variable("CODEX_HOME").ok().filter(|home| !home.is_empty() && home.len() <= MAX_HOME);
    Some(Session { agent: "codex".to_owned(), id, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_of(set: &[(&str, &str)]) -> Option<Session> {
        session(&|key| {
            let found = set.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
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
    fn what_could_be_a_flag_or_a_path_is_no_session() {
        for id in ["", "--resume", "../x", "a b", &"a".repeat(65)] {
            assert_eq!(session_of(&[("CODEX_THREAD_ID", id)]), None, "{id}");
        }
    }
}
