//! Jobs that an earlier agent left behind.

use std::sync::Arc;

use common::event::{EventBody, FailureKind, FinalState, JobError};

use crate::shim::testament;
use crate::spool::{JobSpool, Spool};

/// Ends every run that has no end. Its agent is gone, and its shim is ending what ran: the end is told once that is done,
/// so that whoever reads it finds nothing of the job any more.
pub(crate) fn recover(spool: &Spool) {
    for run in spool.all().into_iter().filter(|run| !run.finished()) {
        tracing::warn!("{} ran when the agent was last stopped: it is over", run.run());
        tokio::spawn(end(run));
    }
}

async fn end(run: Arc<JobSpool>) {
    if let Some((killed, survivors)) = testament::read(&run.testament()).await {
        run.append(EventBody::Cleanup { killed, survivors });
    }
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
