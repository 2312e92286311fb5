//! The agent's time limits, compared with the time that has really passed.

use std::time::Duration;

use common::event::{EventBody, FailureKind, FinalState, JobError};
use worker_agent::internals::{LimitAction, Timer, TimerEvent, WorkTime};

use crate::agent_node::AgentNode;
use crate::planted::OfAgent;
use crate::world::{STEP, World};

/// Limit of a job, as the agent measures it and as it really is.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Reading of the agent's monotonic clock when the job began.
    begun: Duration,
    time: WorkTime,
    timer: Timer,
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
    /// Begins at a reading of the agent's monotonic clock.
    pub(crate) fn new(begun: Duration, whole: Duration) -> Self {
        let timer = Timer::new(Duration::ZERO, common::duration::to_millis(whole), LimitAction::Fail);
        Self { begun, time: WorkTime::default(), timer, whole, ran: Duration::ZERO, pauses: 0 }
    }

    /// Returns true once the job is over its limit, measured as its supervisor does it.
    fn is_over(&mut self, now: Duration, planted: Option<OfAgent>) -> bool {
        let real = now.saturating_sub(self.begun);
        let worked = match planted {
            Some(OfAgent::FrozenTimeCounts) => real,
            _ => self.time.advance_to(real),
        };
        self.timer.check(worked) == Some(TimerEvent::Expired)
    }
}

impl World {
    /// Ends jobs that are over their limit, and frees slots.
    pub(crate) fn check_limits(&mut self, agent: &AgentNode) -> Result<(), String> {
        let (now, real) = (self.clocks.now, self.clocks.agent_monotonic());
        self.slots.retain(|_, until| until.is_none_or(|until| until > now));
        let mut over = Vec::new();
        for (id, limit) in &mut self.limits {
            limit.ran += STEP;
            let worked = limit.ran + PAUSE * limit.pauses;
            match limit.is_over(real, self.planted.agent) {
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
