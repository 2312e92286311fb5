//! A command that tells of a job's end: nothing else has to then.

use std::time::Duration;

use common::record::JobRecord;

use super::{Context, caller};
use crate::registry::lease;
use crate::registry::outbox::{self, Shown};

/// Ends that are older are no news: they have left the outbox, or were never in it.
const NEWS: Duration = Duration::from_secs(24 * 3600);

/// Claims the end of a job that has ended for the command `by`, then tells of it with `tell`. The end is told whether
/// or not it could be claimed; where nobody reads it, the claim is taken back.
pub fn told(context: &Context, record: &JobRecord, by: &str, tell: impl FnOnce()) {
    let now = lease::now(&context.registry);
    let age = record.finished_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    let mine = age.is_some_and(|age| age < NEWS) && {
        let session = caller::session(&|key| context.variable(key));
        let shown = Shown { at: now, by: by.to_owned(), session };
        outbox::claim(&context.registry, &record.job, &shown).unwrap_or(false)
    };
    tell();
    if mine && context.output.is_closed() {
        // Where this fails too, `relay status` still tells the end.
        let _ = outbox::unclaim(&context.registry, &record.job);
    }
}
