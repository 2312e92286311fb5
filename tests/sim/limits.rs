//! Time limits of the agent's jobs, compared with the real time.

use std::time::Duration;

use common::event::{EventBody, FailureKind, FinalState, JobError};
use worker_agent::internals::{LimitAction, Timer, TimerEvent, WorkClock};

use crate::agent_node::AgentNode;
use crate::planted::AgentBug;
use crate::world::{STEP, World};

/// Time limit of a job, measured as the agent does it and by the real time.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Reading of the agent's monotonic clock when the job began.
    started_at: Duration,
    /// The agent's own clock of the job, which leaves out long pauses of the machine.
    work_clock: WorkClock,
    timer: Timer,
    /// Time that the job may take.
    length: Duration,
    /// Real time for which the job has run while the agent was not frozen.
    run_time: Duration,
    /// Number of freezes of the agent.
    pub(crate) pauses: u32,
}

/// Longest part of a freeze that may count towards a limit.
const COUNTED_PAUSE: Duration = Duration::from_secs(1);
/// Longest delay with which a limit may be enforced.
const MAX_DELAY: Duration = Duration::from_secs(1);

impl Limit {
    /// Creates the limit of a job that starts at this reading of the agent's monotonic clock.
    pub(crate) fn new(started_at: Duration, length: Duration) -> Self {
        let timer = Timer::new(Duration::ZERO, common::duration::to_millis(length), LimitAction::Fail);
        Self {
            started_at,
            work_clock: WorkClock::default(),
            timer,
            length,
            run_time: Duration::ZERO,
            pauses: 0,
        }
    }

    /// Advances the clock of the job. Returns true once the job is over its limit, measured as the agent's supervisor
    /// does it.
    fn check_over(&mut self, now: Duration, planted_bug: Option<AgentBug>) -> bool {
        let real = now.saturating_sub(self.started_at);
        let worked = match planted_bug {
            Some(AgentBug::FrozenTimeCounts) => real,
            _ => self.work_clock.advance_to(real),
        };
        self.timer.check(worked) == Some(TimerEvent::Expired)
    }
}

impl World {
    /// Ends jobs that are over their limit, and frees the agent's slots whose workers have ended by now. Fails if a
    /// limit is enforced too early or too late.
    pub(crate) fn check_limits(&mut self, agent: &AgentNode) -> Result<(), String> {
        let (now, real) = (self.clocks.now, self.clocks.agent_monotonic());
        self.slots.retain(|_, until| until.is_none_or(|until| until > now));
        let mut over = Vec::new();
        for (id, limit) in &mut self.limits {
            limit.run_time += STEP;
            let worked = limit.run_time + COUNTED_PAUSE * limit.pauses;
            match limit.check_over(real, self.planted_bug.agent) {
                true if worked + STEP < limit.length => {
                    return Err(format!(
                        "{id} timed out after {worked:?} of work, before its limit of {:?}",
                        limit.length
                    ));
                }
                false if limit.run_time > limit.length + MAX_DELAY => {
                    return Err(format!(
                        "{id} has run for {:?}, its limit is {:?}",
                        limit.run_time, limit.length
                    ));
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
            self.append_event(
                agent,
                &id,
                EventBody::Finished { state, error, exit_code: None, changes: None },
            );
        }
        Ok(())
    }
}
