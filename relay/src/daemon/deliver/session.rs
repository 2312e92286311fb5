//! What is known of the session that launched a job.

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
use common::text::one_line;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::book::Sight;
use crate::bounded_file;
use crate::registry::Registry;
use crate::registry::outbox::{self, Entry};
use crate::registry::sessions;

/// The agent of a session that takes messages.
const CODEX: &str = "codex";
/// Codex's folder in the person's home, where `CODEX_HOME` names no other.
const USUAL_HOME: &str = ".codex";
/// Bytes of a folder's path that a message shows.
const SHOWN: usize = 200;
/// How long the hooks of a session that is in a turn are waited for, since the last one was heard: each tool call ends
/// with one, and a session without hooks is never known to be in a turn.
const HOOKS: Duration = Duration::from_secs(60);
/// The first line of a session's own file holds its instructions too.
const MAX_META: u64 = 256 * 1024;

/// What others have done about an end, and whether somebody is about to.
pub(super) fn sight(registry: &Registry, entry: &Entry) -> Sight {
    let shown = outbox::shown(registry, &entry.job);
    let told = shown.as_ref().and_then(|shown| shown.session.as_ref());
    let shown_there = told.is_some_and(|told| {
        // Claimed for a message that may never have gone out is not shown.
        entry.session.as_ref().is_some_and(|own| own.id == told.id)
            && shown.as_ref().is_some_and(|shown| shown.by != super::ways::QUEUED)
    });
    let state = entry.session.as_ref().and_then(|session| sessions::read(registry, &session.id));
    let busy_until = state.filter(sessions::State::is_busy).map(|state| state.at + HOOKS);
    Sight { shown: shown.is_some(), shown_there, busy_until }
}

/// Whether a session reads messages: one of Codex does, unless it is one of `codex exec`, as its own file tells. (Whose
/// file is not found is taken for one that does; one of another home is told so when its message is due.)
pub(super) fn takes_messages(session: &Session) -> bool {
    takes_messages_in(own_home().as_deref(), session)
}

fn takes_messages_in(own: Option<&Path>, session: &Session) -> bool {
    // Whoever wrote the record, an id becomes a part of a path and an argument of another program.
    session.agent == CODEX
        && sessions::is_id(&session.id)
        && home_in(own, session).map_or(true, |home| !is_exec(&home, &session.id))
}

/// The folder of the session's Codex, which has to be that of this process.
///
/// Codex runs programs that the settings in its folder name, and the record of a job may name any folder: nothing but
/// its own environment tells the daemon which one is the person's.
///
/// # Errors
/// One line for a session of another folder.
pub(super) fn home(session: &Session) -> Result<PathBuf, String> {
    home_in(own_home().as_deref(), session)
}

/// The folder of this process' Codex.
fn own_home() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CODEX_HOME").or_else(|| Some(set("HOME")?.join(USUAL_HOME)))
}

fn home_in(own: Option<&Path>, session: &Session) -> Result<PathBuf, String> {
    let usual = || env::var_os("HOME").map(|home| PathBuf::from(home).join(USUAL_HOME));
    let named = session.home.as_ref().map(PathBuf::from).or_else(usual);
    match (own, &named) {
        (Some(own), Some(named)) if is_same(own, named) => Ok(own.to_owned()),
        _ => {
            let named = named.map(|named| one_line(&named.to_string_lossy(), SHOWN)).unwrap_or_default();
            Err(format!(
                "its session has another Codex home than the relay ({named}): start relay with the same CODEX_HOME"
            ))
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    one == other || matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}

fn is_exec(home: &Path, id: &str) -> bool {
    rollout(home, id).and_then(|path| bounded_file::begin(&path, MAX_META).ok()).is_some_and(|begin| {
        let line = begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let meta: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        meta["payload"]["source"].as_str() == Some("exec")
    })
}

/// The session's own file, in a folder of the day on which it began; its id tells the day.
fn rollout(home: &Path, id: &str) -> Option<PathBuf> {
    let began = began(id)?;
    let end = format!("-{id}.jsonl");
    // The folders go by local time, and the day may have ended meanwhile.
    [began, began.checked_sub(1.day()).ok()?, began.checked_add(1.day()).ok()?].into_iter().find_map(|day| {
        let folder = home.join("sessions").join(day.strftime("%Y/%m/%d").to_string());
        let mut entries = fs::read_dir(folder).ok()?.flatten();
        let found = entries.find(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(&end)));
        found.map(|entry| entry.path())
    })
}

/// The day in an id of version 7, whose first 48 bits are milliseconds.
fn began(id: &str) -> Option<Date> {
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
        // 2025-11-22, within a day of which its folder lies wherever one is.
        let id = "019aab00-0000-7000-8000-000000000001";
        let day = dir.path().join("sessions").join(began(id).unwrap().strftime("%Y/%m/%d").to_string());
        fs::create_dir_all(&day).unwrap();
        let file = day.join(format!("rollout-2025-11-22T10-00-00-{id}.jsonl"));
        let session = |agent: &str, id: &str| Session {
            agent: agent.into(),
            id: id.into(),
            home: Some(dir.path().display().to_string()),
        };
        let takes = |session: &Session| takes_messages_in(Some(dir.path()), session);
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
        let day = dir.path().join("sessions").join(began(id).unwrap().strftime("%Y/%m/%d").to_string());
        fs::create_dir_all(&day).unwrap();
        let pipe = day.join(format!("rollout-2025-11-22T10-00-00-{id}.jsonl"));
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        let home = Some(dir.path().display().to_string());
        let session = Session { agent: "codex".into(), id: id.into(), home };
        assert!(takes_messages_in(Some(dir.path()), &session));
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
            home_in(Some(&own), &Session { agent: "codex".into(), id: "t".into(), home })
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
