//! A message to the Codex session that launched the job: an idle one begins a turn with it within a second, one in a turn
//! gets it as its next.

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
    let home = match session::home(session) {
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
    command.env("CODEX_HOME", home);
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
