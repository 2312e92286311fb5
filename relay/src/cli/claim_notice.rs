//! Claim of a completion notice by the command that shows it, so that nothing else repeats it.

use std::time::Duration;

use common::record::JobRecord;

use super::{Context, session};
use crate::registry::lease;
use crate::registry::outbox::{self, Shown};

/// Maximum age of a claimed completion notice. Older notices have left the outbox, or were never in it.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Claims the completion notice of an ended job for the command `by`, then shows it with `tell`. A failed claim does
/// not prevent that. If stdout is closed, the claim is released.
pub fn show_claimed(context: &Context, record: &JobRecord, by: &str, tell: impl FnOnce()) {
    let now = lease::now(&context.registry);
    let age = record.finished_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    let mine = age.is_some_and(|age| age < MAX_AGE) && {
        let session = session::session(&|key| context.variable(key));
        let shown = Shown { at: now, by: by.to_owned(), session };
        outbox::claim(&context.registry, &record.job, &shown).unwrap_or(false)
    };
    tell();
    if mine && context.output.is_closed() {
        // If this fails too, `relay status` still shows the outcome.
        let _ = outbox::unclaim(&context.registry, &record.job);
    }
}
