//! Claim of a completion notice by the command that shows it, so that it is shown once.

use std::time::Duration;

use common::record::JobRecord;

use super::{Context, session};
use crate::registry::lease;
use crate::registry::outbox::{self, NoticeClaim};

/// Maximum age of a claimed completion notice. Older notices are no longer in the outbox.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Claims the completion notice of an ended job for a command, then calls `show`, even if the claim failed. If stdout
/// is closed, the claim is released.
pub fn claim_and_show(context: &Context, record: &JobRecord, claimed_by: &str, show: impl FnOnce()) {
    let now = lease::current_time(&context.registry);
    let age = record.finished_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    let is_own = age.is_some_and(|age| age < MAX_AGE) && {
        let session = session::calling_session(&|key| context.caller_variable(key));
        let shown = NoticeClaim { at: now, by: claimed_by.to_owned(), session };
        outbox::claim_notice(&context.registry, &record.job, &shown).unwrap_or(false)
    };
    show();
    if is_own && context.output.is_closed() {
        // If the release fails, `relay status` still shows the outcome.
        let _ = outbox::release_claim(&context.registry, &record.job);
    }
}
