//! Final events of jobs that the relay ends itself.

use common::event::{EventBody, FailureKind, FinalState, JobError};
use common::wire::TerminationCause;

use super::container_exit;

/// Final event of a cancelled job that no agent has started.
pub(super) fn cancelled_event() -> EventBody {
    EventBody::Finished { state: FinalState::Cancelled, error: None, exit_code: None, changes: None }
}

/// Final event of a job that can't be started.
pub(in crate::daemon) fn refused_event(reason: String) -> EventBody {
    failed_event(FailureKind::Refused, reason)
}

/// Final event of a job that its agent has lost. `cause` is the exit of the agent's container, if that is the reason.
pub(super) fn lost_job_event(cause: Option<&TerminationCause>) -> EventBody {
    if let Some(cause) = cause {
        return container_exit::final_event(cause, "and the agent's state is lost");
    }
    failed_event(
        FailureKind::AgentLost,
        "the agent reconnected without this job: its state and its worker are lost; launch the job again"
            .to_owned(),
    )
}

/// Final event of a job that waited for another job, which did not complete.
pub(in crate::daemon) fn dependency_failed_event(reason: String) -> EventBody {
    failed_event(FailureKind::DependencyFailed, reason)
}

/// Final event of a failed job.
pub(super) fn failed_event(kind: FailureKind, message: String) -> EventBody {
    EventBody::Finished {
        state: FinalState::Failed,
        error: Some(JobError { kind, message, step: None }),
        exit_code: None,
        changes: None,
    }
}
