//! The channel `codex`: a message to the Codex session that launched the job. An idle session starts a turn with the
//! message within a second; a session in a turn starts its next turn with it.

use common::origin::Session;
use common::record::JobRecord;
use tokio::process::Command;

use super::program;
use super::shared::{ATTEMPT_TIMEOUT, Channels};
use crate::daemon::deliver::schedule::DeliveryOutcome;
use crate::daemon::deliver::session::{self, MESSAGE_CLAIMANT};
use crate::notice;
use crate::registry::outbox::{self, NoticeClaim};
use crate::time;

pub(super) async fn send_message(channels: &Channels, record: &JobRecord) -> DeliveryOutcome {
    let Some(session) = &record.origin.session else {
        return DeliveryOutcome::Refused("no session is known".to_owned());
    };
    let home = match session::session_home(session) {
        Ok(home) => home,
        Err(reason) => return DeliveryOutcome::Refused(reason),
    };
    // The notice is claimed first, so that no hook of the session shows it again.
    let claim = claim_for_message(channels, record, session);
    if claim == ClaimResult::ShownInSession {
        return DeliveryOutcome::Accepted;
    }
    let mut command = Command::new(&channels.config().codex);
    command.arg("queue").arg("--thread").arg(&session.id).arg("--message").arg(notice::notice_text(record));
    command.current_dir(channels.root());
    command.env("CODEX_HOME", home);
    let unsent_guard = (claim == ClaimResult::ByMessage).then_some(UnsentGuard { channels, record });
    match program::run_with_limit(command, Vec::new(), ATTEMPT_TIMEOUT).await {
        Ok(()) => {
            unsent_guard.into_iter().for_each(std::mem::forget);
            DeliveryOutcome::Accepted
        }
        Err(reason) => DeliveryOutcome::Failed(reason),
    }
}

/// Claim for a message that has not been sent yet. Dropping it releases the claim, so that other clients show the
/// notice.
struct UnsentGuard<'a> {
    channels: &'a Channels,
    record: &'a JobRecord,
}

impl Drop for UnsentGuard<'_> {
    fn drop(&mut self) {
        // If this fails, the next daemon releases the claim.
        let _ = outbox::release_claim(self.channels.registry(), &self.record.job);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum ClaimResult {
    /// The notice is claimed for the message, so no other client shows the notice.
    ByMessage,
    /// Another client has shown the notice, or the claim failed. The session receives the message anyway.
    ByOtherClient,
    /// The session has already shown the notice.
    ShownInSession,
}

fn claim_for_message(channels: &Channels, record: &JobRecord, session: &Session) -> ClaimResult {
    let new_claim =
        NoticeClaim { at: time::now(), by: MESSAGE_CLAIMANT.to_owned(), session: Some(session.clone()) };
    match outbox::claim_notice(channels.registry(), &record.job, &new_claim) {
        Ok(true) => ClaimResult::ByMessage,
        Ok(false) => match outbox::read_claim(channels.registry(), &record.job) {
            // An earlier attempt to send this message has the claim; that attempt may have been interrupted.
            Some(earlier) if earlier.by == MESSAGE_CLAIMANT => ClaimResult::ByMessage,
            Some(NoticeClaim { session: Some(other), .. }) if other.id == session.id => {
                ClaimResult::ShownInSession
            }
            _ => ClaimResult::ByOtherClient,
        },
        Err(_) => ClaimResult::ByOtherClient,
    }
}
