//! State of the session that launched a job.

#![expect(
    clippy::disallowed_methods,
    reason = "Codex's own files, which no session of this project may write"
)]

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::origin::Session;
use common::text_format::one_line;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::schedule::DeliveryContext;
use crate::bounded_file;
use crate::registry::Registry;
use crate::registry::outbox::{self, OutboxEntry};
use crate::registry::sessions;

/// Name under which a message to the session claims a notice.
pub(super) const MESSAGE_CLAIMANT: &str = "queue";
/// Name of the host agent whose sessions accept messages.
const CODEX_AGENT: &str = "codex";
/// Name of Codex's default folder in the user's home.
const DEFAULT_HOME: &str = ".codex";
/// Maximum length of a folder's path in an error message, in bytes.
const MAX_SHOWN_PATH: usize = 200;
/// Maximum time to wait, after the last hook of a session in a turn, for the next hook to show a notice. Each tool call
/// ends with a hook. A session without hooks never counts as in a turn.
const HOOK_GRACE: Duration = Duration::from_secs(60);
/// Maximum number of bytes to read from the file in which Codex stores a session. The file's first line, which is
/// needed, also contains the session's instructions.
const MAX_FIRST_LINE: u64 = 256 * 1024;

/// Returns by whom a notification was shown, and until when a hook may still show it.
pub(super) fn delivery_context(registry: &Registry, entry: &OutboxEntry) -> DeliveryContext {
    let claim = outbox::read_claim(registry, &entry.job);
    let claim_session = claim.as_ref().and_then(|claim| claim.session.as_ref());
    let was_shown_in_session = claim_session.is_some_and(|claim_session| {
        // A claim by this thread, for its own message to the session, does not count as shown.
        entry.session.as_ref().is_some_and(|own| own.id == claim_session.id)
            && claim.as_ref().is_some_and(|claim| claim.by != MESSAGE_CLAIMANT)
    });
    let state = entry.session.as_ref().and_then(|session| sessions::read_session(registry, &session.id));
    let hooks_may_show_until =
        state.filter(sessions::SessionState::is_busy).map(|state| state.at + HOOK_GRACE);
    DeliveryContext { was_shown: claim.is_some(), was_shown_in_session, hooks_may_show_until }
}

/// Returns true if a session accepts messages. All sessions of Codex do, except those of `codex exec`, which the file
/// in which Codex stores a session identifies. A session without such a file counts as accepting. So does a session
/// whose Codex has another folder; its message is refused when it is due.
pub(super) fn accepts_messages(session: &Session) -> bool {
    accepts_messages_in(daemon_codex_home().as_deref(), session)
}

fn accepts_messages_in(daemon_home: Option<&Path>, session: &Session) -> bool {
    // The id is checked, because the record is not trusted, and the id becomes part of a path and of a command line.
    session.agent == CODEX_AGENT
        && sessions::is_session_id(&session.id)
        && session_home_in(daemon_home, session)
            .map_or(true, |home| !is_codex_exec_session(&home, &session.id))
}

/// Returns the folder of the session's Codex, which must be the folder of this process's Codex.
///
/// Codex runs programs that the settings in its folder name, and a job's record may name any folder. So only the folder
/// from the daemon's own environment is trusted.
///
/// # Errors
/// A one-line message for a session of another folder.
pub(super) fn session_home(session: &Session) -> Result<PathBuf, String> {
    session_home_in(daemon_codex_home().as_deref(), session)
}

/// Returns the folder of this process's Codex.
fn daemon_codex_home() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("CODEX_HOME").or_else(|| Some(variable("HOME")?.join(DEFAULT_HOME)))
}

fn session_home_in(daemon_home: Option<&Path>, session: &Session) -> Result<PathBuf, String> {
    let default_home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(DEFAULT_HOME));
    let session_home = session.home.as_ref().map(PathBuf::from).or_else(default_home);
    match (daemon_home, &session_home) {
        (Some(own), Some(session_home)) if is_same_folder(own, session_home) => Ok(own.to_owned()),
        _ => {
            let session_home = session_home
                .map(|session_home| one_line(&session_home.to_string_lossy(), MAX_SHOWN_PATH))
                .unwrap_or_default();
            Err(format!(
                "its session uses a different CODEX_HOME than the relay ({session_home}): start relay with the same \
                CODEX_HOME"
            ))
        }
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let file_id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    one == other || matches!((file_id(one), file_id(other)), (Ok(one), Ok(other)) if one == other)
}

fn is_codex_exec_session(home: &Path, id: &str) -> bool {
    find_session_file(home, id)
        .and_then(|path| bounded_file::read_beginning(&path, MAX_FIRST_LINE).ok())
        .is_some_and(|bytes| {
            let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let meta: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            meta["payload"]["source"].as_str() == Some("exec")
        })
}

/// Finds the file in which Codex stores a session. The file's folder is named after the day on which the session
/// started, which is part of the session's id.
fn find_session_file(home: &Path, id: &str) -> Option<PathBuf> {
    let day_in_id = start_day(id)?;
    let suffix = format!("-{id}.jsonl");
    // The folders are named by local time, so the folder's day may be the day before or after the day in the id.
    [day_in_id, day_in_id.checked_sub(1.day()).ok()?, day_in_id.checked_add(1.day()).ok()?]
        .into_iter()
        .find_map(|day| {
            let folder = home.join("sessions").join(day.strftime("%Y/%m/%d").to_string());
            let mut entries = fs::read_dir(folder).ok()?.flatten();
            let found =
                entries.find(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(&suffix)));
            found.map(|entry| entry.path())
        })
}

/// Returns the start day of a session from its id, a UUID of version 7: its first 48 bits are milliseconds since 1970.
fn start_day(id: &str) -> Option<Date> {
    let hex: String = id.chars().filter(|c| *c != '-').take(12).collect();
    let at = Timestamp::from_millisecond(i64::from_str_radix(&hex, 16).ok()?).ok()?;
    Some(at.to_zoned(TimeZone::system()).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_codex_exec_accepts_no_messages() {
        let dir = tempfile::tempdir().unwrap();
        // The id contains 2025-11-22; the folder lies within a day of that date in every time zone.
        let id = "019aab00-0000-7000-8000-000000000001";
        let day = dir.path().join("sessions").join(start_day(id).unwrap().strftime("%Y/%m/%d").to_string());
        fs::create_dir_all(&day).unwrap();
        let file = day.join(format!("rollout-2025-11-22T10-00-00-{id}.jsonl"));
        let session = |agent: &str, id: &str| Session {
            agent: agent.into(),
            id: id.into(),
            home: Some(dir.path().display().to_string()),
        };
        let accepts = |session: &Session| accepts_messages_in(Some(dir.path()), session);
        assert!(accepts(&session("codex", id)), "the session has no file yet");
        for (source, expected) in [("cli", true), ("exec", false)] {
            let line =
                format!("{{\"type\":\"session_meta\",\"payload\":{{\"source\":\"{source}\"}}}}\n{{}}\n");
            fs::write(&file, line).unwrap();
            assert_eq!(accepts(&session("codex", id)), expected, "{source}");
        }
        assert!(!accepts(&session("claude", "x")));
        assert!(!accepts(&session("codex", "--resume")));
        assert!(accepts(&session("codex", "no-uuid")));
    }

    #[test]
    fn a_pipe_in_place_of_a_sessions_file_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let id = "019aab00-0000-7000-8000-000000000001";
        let day = dir.path().join("sessions").join(start_day(id).unwrap().strftime("%Y/%m/%d").to_string());
        fs::create_dir_all(&day).unwrap();
        let pipe = day.join(format!("rollout-2025-11-22T10-00-00-{id}.jsonl"));
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        let home = Some(dir.path().display().to_string());
        let session = Session { agent: "codex".into(), id: id.into(), home };
        assert!(accepts_messages_in(Some(dir.path()), &session));
    }

    #[test]
    fn only_the_codex_folder_of_this_process_is_accepted_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        for folder in [&own, &other] {
            fs::create_dir(folder).unwrap();
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        let home = |session_home: &Path| {
            let home = Some(session_home.display().to_string());
            session_home_in(Some(&own), &Session { agent: "codex".into(), id: "t".into(), home })
        };
        for session_home in [&own, &link] {
            assert_eq!(home(session_home), Ok(own.clone()), "{}", session_home.display());
        }
        for session_home in [&other, &own.join(".."), &dir.path().join("absent")] {
            let refused = home(session_home).unwrap_err();
            assert!(refused.ends_with("start relay with the same CODEX_HOME"), "{refused}");
        }
    }
}
