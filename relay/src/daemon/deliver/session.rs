//! What is known of the session that launched a job.

#![expect(
    clippy::disallowed_methods,
    reason = "Codex's own files, which no session of this project may write"
)]

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::origin::Session;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::book::Sight;
use crate::registry::Registry;
use crate::registry::outbox::{self, Entry};
use crate::registry::sessions;

/// The agent of a session that takes messages.
const CODEX: &str = "codex";
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
/// file is not found is taken for one that does.)
pub(super) fn takes_messages(session: &Session) -> bool {
    // Whoever wrote the record, an id becomes a part of a path and an argument of another program.
    session.agent == CODEX
        && sessions::is_id(&session.id)
        && home(session).is_none_or(|home| !is_exec(&home, &session.id))
}

/// The folder of the session's Codex.
pub(super) fn home(session: &Session) -> Option<PathBuf> {
    match &session.home {
        Some(home) => Some(PathBuf::from(home)),
        None => env::var_os("HOME").map(|home| PathBuf::from(home).join(".codex")),
    }
}

fn is_exec(home: &Path, id: &str) -> bool {
    rollout(home, id).and_then(|path| File::open(path).ok()).is_some_and(|file| {
        let mut line = Vec::new();
        let read = BufReader::new(file.take(MAX_META)).read_until(b'\n', &mut line);
        let meta: serde_json::Value = serde_json::from_slice(&line).unwrap_or_default();
        read.is_ok() && meta["payload"]["source"].as_str() == Some("exec")
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
        assert!(takes_messages(&session("codex", id)), "nothing is known of it");
        for (source, expected) in [("cli", true), ("exec", false)] {
            let line =
                format!("{{\"type\":\"session_meta\",\"payload\":{{\"source\":\"{source}\"}}}}\n{{}}\n");
            fs::write(&file, line).unwrap();
            assert_eq!(takes_messages(&session("codex", id)), expected, "{source}");
        }
        assert!(!takes_messages(&session("claude", "x")));
        assert!(!takes_messages(&session("codex", "--resume")));
        assert!(takes_messages(&session("codex", "no-uuid")));
    }
}
