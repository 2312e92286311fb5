//! The claim of a completion notice by the command that shows the notice: no other command shows it again.

use std::time::Duration;

use common::record::JobRecord;

use super::{Context, session};
use crate::registry::lease;
use crate::registry::outbox::{self, NoticeClaim};

/// Maximum age of a completion notice that can be claimed. The outbox does not keep older notices.
const MAX_NOTICE_AGE: Duration = Duration::from_secs(24 * 3600);

/// Claims the completion notice of an ended job for a command, then calls `show`, even if the claim failed. If stdout
/// is closed, the claim is released.
pub fn claim_and_show(context: &Context, record: &JobRecord, claimed_by: &str, show: impl FnOnce()) {
    let now = lease::current_time(&context.registry);
    let age = record.finished_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    let has_claimed = age.is_some_and(|age| age < MAX_NOTICE_AGE) && {
        let session = session::calling_session(&|key| context.caller_variable(key));
        let claim = NoticeClaim { at: now, by: claimed_by.to_owned(), session };
        outbox::claim_notice(&context.registry, &record.job, &claim).unwrap_or(false)
    };
    show();
    if has_claimed && context.output.is_closed() {
        // If the release fails, `relay status` still shows the outcome.
        let _ = outbox::release_claim(&context.registry, &record.job);
    }
}
