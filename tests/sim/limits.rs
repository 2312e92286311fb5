//! The agent's time limits, compared with the time that has really passed.

use std::time::Duration;

use common::event::{EventBody, FailureKind, FinalState, JobError};
use worker_agent::internals::{AgentSide, JobLimit};

use crate::world::{STEP, World};

/// Limit of a job, as the agent measures it and as it really is.
#[derive(Debug)]
pub(crate) struct Limit {
    measured: JobLimit,
    whole: Duration,
    /// Time for which both agent and job have run.
    ran: Duration,
    /// Number of freezes.
    pub(crate) pauses: u32,
}

/// Part of a pause that may count towards a limit.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest delay with which a limit may be enforced.
const LATE: Duration = Duration::from_secs(1);

impl Limit {
    pub(crate) fn begun(measured: JobLimit, whole: Duration) -> Self {
        Self { measured, whole, ran: Duration::ZERO, pauses: 0 }
    }
}

impl World {
    /// Ends jobs that are over their limit, and frees slots.
    pub(crate) fn check_limits(&mut self, agent: &AgentSide) -> Result<(), String> {
        let (now, real) = (self.clocks.now, self.clocks.agent_monotonic());
        self.slots.retain(|_, until| until.is_none_or(|until| until > now));
        let mut over = Vec::new();
        for (id, limit) in &mut self.limits {
            limit.ran += STEP;
            let worked = limit.ran + PAUSE * limit.pauses;
            match limit.measured.is_over(real) {
                true if worked + STEP < limit.whole => {
                    return Err(format!(
                        "{id} timed out after {worked:?} of work, before its limit of {:?}",
                        limit.whole
                    ));
                }
                false if limit.ran > limit.whole + LATE => {
                    return Err(format!("{id} has run for {:?}, its limit is {:?}", limit.ran, limit.whole));
                }
                is_over => over.extend(is_over.then(|| id.clone())),
            }
        }
        for id in over {
            self.serial += 1;
            self.tally.timeouts += 1;
            let message = format!("over its limit {}", self.serial);
            let error = Some(JobError { kind: FailureKind::JobTimeout, message, step: None });
            let state = FinalState::Failed;
            self.spool(agent, &id, EventBody::Finished { state, error, exit_code: None, changes: None });
        }
        Ok(())
    }
}
