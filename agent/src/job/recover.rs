//! Jobs that an earlier agent left behind.

use common::event::{EventBody, FailureKind, FinalState, JobError};

use crate::spool::Spool;

/// Ends every run that has no end: its agent is gone, and its shims have ended what ran.
pub(crate) fn recover(spool: &Spool) {
    for run in spool.all().into_iter().filter(|run| !run.finished()) {
        tracing::warn!("{} ran when the agent was last stopped: it is over", run.run());
        run.append(EventBody::Finished {
            state: FinalState::Failed,
            error: Some(JobError {
                kind: FailureKind::AgentLost,
                message: "the agent was restarted while the job ran".to_owned(),
                step: None,
            }),
            exit_code: None,
            changes: None,
        });
    }
}
