//! A message to the Codex session that launched the job: an idle one begins a turn with it within a second, one in a turn
//! gets it as its next.

use std::env;
use std::path::{Path, PathBuf};

use common::origin::Session;
use common::record::JobRecord;
use tokio::process::Command;

use super::carry::{LIMIT, Ways};
use super::program;
use crate::daemon::deliver::book::Outcome;
use crate::daemon::deliver::session;
use crate::registry::outbox::{self, Shown};
use crate::render::notice;
use crate::time;

/// Who claims an end that is handed over as a message.
pub(in crate::daemon::deliver) const QUEUED: &str = "queue";

/// Hands the message over.
pub(super) async fn tell(ways: &Ways, record: &JobRecord) -> Outcome {
    let Some(session) = &record.origin.session else {
        return Outcome::Refused("no session is known".to_owned());
    };
    let home = match home(session, ways.root()) {
        Ok(home) => home,
        Err(reason) => return Outcome::Refused(reason),
    };
    // Claimed first, so that no hook of the session shows it a second time.
    let claim = claim(ways, record, session);
    if claim == Claim::ShownThere {
        return Outcome::Taken;
    }
    let mut command = Command::new(&ways.config().codex);
    command.arg("queue").arg("--thread").arg(&session.id).arg("--message").arg(notice::text(record));
    command.current_dir(ways.root());
    match &session.home {
        Some(_) => command.env("CODEX_HOME", &home),
        // The daemon's own may be that of its workers.
        None => command.env_remove("CODEX_HOME"),
    };
    let unsent = (claim == Claim::Own).then_some(Unsent { ways, record });
    match program::run(command, Vec::new(), LIMIT).await {
        Ok(()) => {
            unsent.into_iter().for_each(std::mem::forget);
            Outcome::Taken
        }
        Err(reason) => Outcome::Failed(reason),
    }
}

/// A claim for a message that was not sent yet. Dropped, however that comes about, it is taken back: whoever asks is to be
/// told.
struct Unsent<'a> {
    ways: &'a Ways,
    record: &'a JobRecord,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        // Where this fails, the next daemon does it.
        let _ = outbox::unclaim(self.ways.registry(), &self.record.job);
    }
}

/// Whose turn it is to show the end.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// This message's.
    Own,
    /// Somebody else was shown it, or nobody can claim it: the session is told all the same.
    Others,
    /// The session was shown it already.
    ShownThere,
}

fn claim(ways: &Ways, record: &JobRecord, session: &Session) -> Claim {
    let shown = Shown { at: time::now(), by: QUEUED.to_owned(), session: Some(session.clone()) };
    match outbox::claim(ways.registry(), &record.job, &shown) {
        Ok(true) => Claim::Own,
        Ok(false) => match outbox::shown(ways.registry(), &record.job) {
            // An earlier try of this message, which may have been cut off.
            Some(shown) if shown.by == QUEUED => Claim::Own,
            Some(Shown { session: Some(other), .. }) if other.id == session.id => Claim::ShownThere,
            _ => Claim::Others,
        },
        Err(_) => Claim::Others,
    }
}

/// The folder of the session's Codex.
///
/// # Errors
/// One line for a folder that anybody inside of a sandbox could have made: Codex would take its settings from there.
fn home(session: &Session, root: &Path) -> Result<PathBuf, String> {
    let named = session::home(session).ok_or("no home folder is known")?;
    if session.home.is_none() {
        return Ok(named);
    }
    let whole = |path: &Path| path.canonicalize();
    let home = whole(&named).map_err(|e| format!("the session's CODEX_HOME {}: {e}", named.display()))?;
    let own =
        env::var_os("CODEX_HOME").is_some_and(|own| whole(Path::new(&own)).is_ok_and(|own| own == home));
    let inside = |folder: &Path| whole(folder).is_ok_and(|folder| home.starts_with(folder));
    if !own && (inside(root) || inside(&env::temp_dir()) || inside(Path::new("/tmp"))) {
        return Err(format!(
            "the session's CODEX_HOME {} lies where a sandbox can write: start the relay with the same CODEX_HOME",
            named.display()
        ));
    }
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_inside_the_project_is_not_trusted() {
        let dir = tempfile::Builder::new().tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let root = dir.path().join("project");
        let inside = root.join("evil");
        let outside = dir.path().join("codex");
        for folder in [&inside, &outside] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::os::unix::fs::symlink(&inside, dir.path().join("link")).unwrap();
        let session = |home: &Path| Session {
            agent: "codex".into(),
            id: "t".into(),
            home: Some(home.display().to_string()),
        };
        assert_eq!(home(&session(&outside), &root), Ok(outside.canonicalize().unwrap()));
        for bad in [inside, dir.path().join("link"), PathBuf::from("/tmp")] {
            let refused = home(&session(&bad), &root).unwrap_err();
            assert!(refused.contains("where a sandbox can write"), "{refused}");
        }
        assert!(home(&session(Path::new("/nowhere/at/all")), &root).is_err());
    }
}
