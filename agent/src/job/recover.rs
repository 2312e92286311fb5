//! End of the jobs of an earlier agent process.
//!
//! ```text
//!  interrupted ──its shim has ended──► waiting ──first welcome──► handing over ──► failed, with the relay's cause or as
//!                                                                                    `agent_lost`
//! ```
//!
//! An agent can't determine why its last process ended, but the relay may have observed it. So the final events of a
//! job are written only after the relay's first welcome, which may contain the cause. Without it they could not be
//! delivered anyway. What the job left in its folders is handed over before the final events. An agent that is killed
//! meanwhile leaves that to the next one, at most [`MAX_RECOVERIES`] times.

use std::sync::Arc;

use common::event::{EventBody, FailureKind, FinalState, JobError};
use common::job::JobSpec;
use common::wire::TerminationCause;
use tokio::sync::watch;

use super::manager::JobManager;
use crate::shim::orphan_report;
use crate::spool::{JobSpool, Spool};

/// Maximum number of agent processes that try to hand over what a run has left. If the hand-over itself ends the agent,
/// for example for lack of memory, the job has to end nevertheless.
const MAX_RECOVERIES: u64 = 5;

/// Cause of the end of the agent's last process, as far as it is known.
#[derive(Debug)]
enum CauseState {
    /// No welcome has been received yet.
    Awaited,
    /// Cause from the first welcome.
    Received(Option<TerminationCause>),
}

impl CauseState {
    fn cause(&self) -> Option<TerminationCause> {
        match self {
            Self::Awaited => None,
            Self::Received(cause) => cause.clone(),
        }
    }
}

/// Sender of the cause in the first welcome: why the agent's last process ended.
#[derive(Debug)]
pub(crate) struct RecoveryNotice {
    state: watch::Sender<CauseState>,
}

impl RecoveryNotice {
    /// Sets the cause from a welcome. Only the first welcome is about the last process.
    pub(crate) fn set_cause(&self, cause: Option<TerminationCause>) {
        self.state.send_if_modified(|state| {
            let is_first = matches!(state, CauseState::Awaited);
            if is_first {
                *state = CauseState::Received(cause);
            }
            is_first
        });
    }
}

/// Finishes every unfinished run once its shim has ended all processes of the run and the cause is known. So no process
/// of the job is left when a user reads that the job has ended. Before that, `jobs` hands over the commits in the run's
/// own place, and its output.
pub(crate) fn recover(spool: &Spool, jobs: Option<&Arc<JobManager>>) -> RecoveryNotice {
    let (state, receiver) = watch::channel(CauseState::Awaited);
    for run in spool.all_runs().into_iter().filter(|run| !run.is_finished()) {
        tracing::warn!("{} ran when the agent was last stopped: it is over", run.run_id());
        tokio::spawn(finish_run(run, jobs.cloned(), receiver.clone()));
    }
    RecoveryNotice { state }
}

async fn finish_run(
    run: Arc<JobSpool>,
    jobs: Option<Arc<JobManager>>,
    mut cause_state: watch::Receiver<CauseState>,
) {
    let cleanup = orphan_report::read(&run.orphan_report()).await;
    // An agent that stops before its first welcome leaves the run to the next process.
    let Ok(cause) = cause_state
        .wait_for(|state| matches!(state, CauseState::Received(_)))
        .await
        .map(|state| state.cause())
    else {
        return;
    };
    if let Some(jobs) = jobs {
        hand_over_leftovers(&run, &jobs).await;
    }
    if let Some((killed, survivors)) = cleanup {
        run.append(EventBody::Cleanup { killed, survivors });
    }
    run.append(finished_event(cause));
}

/// Hands over what an interrupted run has left: its result, then its output.
async fn hand_over_leftovers(run: &JobSpool, jobs: &JobManager) {
    let spec = run.stored_spec().and_then(|spec| serde_json::from_str::<JobSpec>(&spec).ok());
    let Some(spec) = spec else { return };
    let recoveries = run.count_recovery().unwrap_or_else(|error| {
        tracing::warn!("{}: its recoveries can't be counted: {error}", run.run_id());
        1
    });
    let may_push = check_recoveries(recoveries);
    let warnings = jobs.push_leftover_result(run.run_id(), &spec, may_push.clone()).await;
    run.append_all(warnings.into_iter().map(|message| EventBody::Warning { message }));
    jobs.push_leftover_output(run, &spec, may_push).await;
}

/// Checks that a run may be recovered for the time `recoveries`, counted from 1.
///
/// # Errors
/// One line with the reason to keep everything where it is.
fn check_recoveries(recoveries: u64) -> Result<(), String> {
    if recoveries > MAX_RECOVERIES {
        return Err(format!("the agent has ended {MAX_RECOVERIES} times meanwhile"));
    }
    Ok(())
}

fn finished_event(cause: Option<TerminationCause>) -> EventBody {
    let cause = cause.unwrap_or_else(|| TerminationCause {
        kind: FailureKind::AgentLost,
        message: "the agent was restarted while the job ran".to_owned(),
        exit_code: None,
    });
    EventBody::Finished {
        state: FinalState::Failed,
        error: Some(JobError { kind: cause.kind, message: cause.message, step: None }),
        exit_code: cause.exit_code,
        changes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::RunId;

    /// Returns a run that was interrupted after its first event, as the next agent finds it.
    fn interrupted_run(dir: &std::path::Path) -> Spool {
        // Folders of runs are beside the state folder.
        let state = dir.join("state");
        std::fs::create_dir(&state).unwrap();
        let run = RunId { job: "demo#1".parse().unwrap(), epoch: 1 };
        let spool = Spool::open(&state).unwrap();
        let job_spool = spool.create_run(run, "{}", Arc::default()).unwrap();
        job_spool.append(EventBody::Message { text: "at work".into() });
        drop((job_spool, spool));
        Spool::open(&state).unwrap()
    }

    async fn last_event(run: &JobSpool) -> EventBody {
        while !run.is_finished() {
            tokio::task::yield_now().await;
        }
        run.read(run.last_seq(), 1, usize::MAX).unwrap().remove(0).body
    }

    #[tokio::test]
    async fn an_interrupted_run_ends_with_the_cause_in_the_first_welcome() {
        let dir = tempfile::tempdir().unwrap();
        let spool = interrupted_run(dir.path());
        let run = spool.all_runs().remove(0);
        let recovery_notice = recover(&spool, None);
        tokio::task::yield_now().await;
        assert!(!run.is_finished(), "no welcome has arrived");
        let message = "the container exited".to_owned();
        let cause = TerminationCause { kind: FailureKind::ContainerExited, message, exit_code: Some(137) };
        recovery_notice.set_cause(Some(cause.clone()));
        recovery_notice.set_cause(None);
        assert_eq!(last_event(&run).await, finished_event(Some(cause)));
    }

    #[test]
    fn a_hand_over_that_ends_the_agent_again_and_again_is_given_up() {
        assert_eq!(check_recoveries(MAX_RECOVERIES), Ok(()));
        let reason = "the agent has ended 5 times meanwhile".to_owned();
        assert_eq!(check_recoveries(MAX_RECOVERIES + 1), Err(reason));
    }

    #[tokio::test]
    async fn without_a_cause_an_interrupted_run_ends_as_agent_lost() {
        let dir = tempfile::tempdir().unwrap();
        let spool = interrupted_run(dir.path());
        let run = spool.all_runs().remove(0);
        recover(&spool, None).set_cause(None);
        let EventBody::Finished { error, .. } = last_event(&run).await else { panic!("no end") };
        assert_eq!(error.map(|error| error.kind), Some(FailureKind::AgentLost));
    }

    #[tokio::test]
    async fn the_finished_event_follows_events_that_only_the_relay_has() {
        let dir = tempfile::tempdir().unwrap();
        let spool = interrupted_run(dir.path());
        let run = spool.all_runs().remove(0);
        let recovery_notice = recover(&spool, None);
        run.continue_after(50);
        recovery_notice.set_cause(None);
        assert!(matches!(last_event(&run).await, EventBody::Finished { .. }));
        assert_eq!(run.last_seq(), 51);
    }
}
