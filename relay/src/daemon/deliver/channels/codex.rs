//! Message to the Codex session that launched the job: an idle session starts a turn with it within a second, a session
//! in a turn takes it as its next one.

use common::origin::Session;
use common::record::JobRecord;
use tokio::process::Command;

use super::attempt::{Channels, TIME_LIMIT};
use super::program;
use crate::daemon::deliver::schedule::Outcome;
use crate::daemon::deliver::session;
use crate::notice;
use crate::registry::outbox::{self, Shown};
use crate::time;

/// Claimant of a notification that is delivered as a message.
pub(in crate::daemon::deliver) const QUEUED: &str = "queue";

/// Delivers the message.
pub(super) async fn send_message(channels: &Channels, record: &JobRecord) -> Outcome {
    let Some(session) = &record.origin.session else {
        return Outcome::Refused("no session is known".to_owned());
    };
    let home = match session::home(session) {
        Ok(home) => home,
        Err(reason) => return Outcome::Refused(reason),
    };
    // Claimed first, so that no hook of the session shows it a second time.
    let claim = claim(channels, record, session);
    if claim == Claim::ShownThere {
        return Outcome::Taken;
    }
    let mut command = Command::new(&channels.config().codex);
    command.arg("queue").arg("--thread").arg(&session.id).arg("--message").arg(notice::text(record));
    command.current_dir(channels.root());
    command.env("CODEX_HOME", home);
    let unsent = (claim == Claim::Own).then_some(UnsentGuard { channels, record });
    match program::run(command, Vec::new(), TIME_LIMIT).await {
        Ok(()) => {
            unsent.into_iter().for_each(std::mem::forget);
            Outcome::Taken
        }
        Err(reason) => Outcome::Failed(reason),
    }
}

/// Claim for a message that was not sent yet. Dropping it, for whatever reason, releases the claim, so that other
/// clients show the notification.
struct UnsentGuard<'a> {
    channels: &'a Channels,
    record: &'a JobRecord,
}

impl Drop for UnsentGuard<'_> {
    fn drop(&mut self) {
        // If this fails, the next daemon releases it.
        let _ = outbox::unclaim(self.channels.registry(), &self.record.job);
    }
}

/// Claimant who shows the notification.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// This message.
    Own,
    /// Another client was shown the notification, or claiming failed: the session receives the message all the same.
    Others,
    /// The session was shown the notification already.
    ShownThere,
}

fn claim(channels: &Channels, record: &JobRecord, session: &Session) -> Claim {
    let shown = Shown { at: time::now(), by: QUEUED.to_owned(), session: Some(session.clone()) };
    match outbox::claim(channels.registry(), &record.job, &shown) {
        Ok(true) => Claim::Own,
        Ok(false) => match outbox::shown(channels.registry(), &record.job) {
            // Claimed by an earlier attempt of this message, which may have been cut off.
            Some(shown) if shown.by == QUEUED => Claim::Own,
            Some(Shown { session: Some(other), .. }) if other.id == session.id => Claim::ShownThere,
            _ => Claim::Others,
        },
        Err(_) => Claim::Others,
    }
}
