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

/// Host agent whose sessions accept messages.
const CODEX_AGENT: &str = "codex";
/// Codex's default folder in the user's home.
const DEFAULT_HOME: &str = ".codex";
/// Maximum length of a folder's path in a message, in bytes.
const MAX_SHOWN_PATH: usize = 200;
/// Time to wait for the hooks of a session in a turn, from its last hook. Each tool call ends with a hook. A session
/// without hooks never counts as in a turn.
const HOOK_GRACE: Duration = Duration::from_secs(60);
/// Maximum number of bytes to read of a session's own file: its first line also contains the session's instructions.
const MAX_META: u64 = 256 * 1024;

/// Returns the state of a notification outside of the delivery thread.
pub(super) fn delivery_context(registry: &Registry, entry: &OutboxEntry) -> DeliveryContext {
    let shown = outbox::read_claim(registry, &entry.job);
    let shown_to = shown.as_ref().and_then(|shown| shown.session.as_ref());
    let shown_there = shown_to.is_some_and(|shown_to| {
        // A claim by this thread, for its own message to the session, does not count as shown.
        entry.session.as_ref().is_some_and(|own| own.id == shown_to.id)
            && shown.as_ref().is_some_and(|shown| shown.by != super::channels::MESSAGE_CLAIMANT)
    });
    let state = entry.session.as_ref().and_then(|session| sessions::read_session(registry, &session.id));
    let busy_until = state.filter(sessions::SessionState::is_busy).map(|state| state.at + HOOK_GRACE);
    DeliveryContext {
        was_shown: shown.is_some(),
        was_shown_in_session: shown_there,
        hooks_may_show_until: busy_until,
    }
}

/// Returns true if a session accepts messages: all sessions of Codex do, except sessions of `codex exec`, which their
/// own files identify. A session without a file counts as accepting. A session with another home is refused when its
/// message is due.
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
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CODEX_HOME").or_else(|| Some(set("HOME")?.join(DEFAULT_HOME)))
}

fn session_home_in(daemon_home: Option<&Path>, session: &Session) -> Result<PathBuf, String> {
    let usual = || env::var_os("HOME").map(|home| PathBuf::from(home).join(DEFAULT_HOME));
    let named = session.home.as_ref().map(PathBuf::from).or_else(usual);
    match (daemon_home, &named) {
        (Some(own), Some(named)) if is_same_folder(own, named) => Ok(own.to_owned()),
        _ => {
            let named =
                named.map(|named| one_line(&named.to_string_lossy(), MAX_SHOWN_PATH)).unwrap_or_default();
            Err(format!(
                "its session uses a different CODEX_HOME than the relay ({named}): start relay with the same \
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
        .and_then(|path| bounded_file::read_beginning(&path, MAX_META).ok())
        .is_some_and(|begin| {
            let line = begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let meta: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            meta["payload"]["source"].as_str() == Some("exec")
        })
}

/// Finds the session's own file. Its folder is named after the start day, which is part of the id.
fn find_session_file(home: &Path, id: &str) -> Option<PathBuf> {
    let began = start_day(id)?;
    let end = format!("-{id}.jsonl");
    // The folders are named by local time, so the folder's day may be the day before or after the day in the id.
    [began, began.checked_sub(1.day()).ok()?, began.checked_add(1.day()).ok()?].into_iter().find_map(|day| {
        let folder = home.join("sessions").join(day.strftime("%Y/%m/%d").to_string());
        let mut entries = fs::read_dir(folder).ok()?.flatten();
        let found = entries.find(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(&end)));
        found.map(|entry| entry.path())
    })
}

/// Returns the day in an id of version 7, whose first 48 bits are milliseconds.
fn start_day(id: &str) -> Option<Date> {
    let hex: String = id.chars().filter(|c| *c != '-').take(12).collect();
    let at = Timestamp::from_millisecond(i64::from_str_radix(&hex, 16).ok()?).ok()?;
    Some(at.to_zoned(TimeZone::system()).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_codex_exec_reads_no_messages() {
        let dir = tempfile::tempdir().unwrap();
        // 2025-11-22; the folder lies within a day of it in every time zone.
        let id = "019aab00-0000-7000-8000-000000000001";
        let day = dir.path().join("sessions").join(start_day(id).unwrap().strftime("%Y/%m/%d").to_string());
        fs::create_dir_all(&day).unwrap();
        let file = day.join(format!("rollout-2025-11-22T10-00-00-{id}.jsonl"));
        let session = |agent: &str, id: &str| Session {
            agent: agent.into(),
            id: id.into(),
            home: Some(dir.path().display().to_string()),
        };
        let takes = |session: &Session| accepts_messages_in(Some(dir.path()), session);
        assert!(takes(&session("codex", id)), "nothing is known of it");
        for (source, expected) in [("cli", true), ("exec", false)] {
            let line =
                format!("{{\"type\":\"session_meta\",\"payload\":{{\"source\":\"{source}\"}}}}\n{{}}\n");
            fs::write(&file, line).unwrap();
            assert_eq!(takes(&session("codex", id)), expected, "{source}");
        }
        assert!(!takes(&session("claude", "x")));
        assert!(!takes(&session("codex", "--resume")));
        assert!(takes(&session("codex", "no-uuid")));
    }

    #[test]
    fn a_pipe_in_the_place_of_a_sessions_file_is_not_waited_for() {
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
    fn only_the_home_of_this_process_is_taken_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        for folder in [&own, &other] {
            fs::create_dir(folder).unwrap();
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        let home = |named: &Path| {
            let home = Some(named.display().to_string());
            session_home_in(Some(&own), &Session { agent: "codex".into(), id: "t".into(), home })
        };
        for named in [&own, &link] {
            assert_eq!(home(named), Ok(own.clone()), "{}", named.display());
        }
        for named in [&other, &own.join(".."), &dir.path().join("absent")] {
            let refused = home(named).unwrap_err();
            assert!(refused.ends_with("start relay with the same CODEX_HOME"), "{refused}");
        }
    }
}
