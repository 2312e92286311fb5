//! Context for handling one input: the time, and the effects so far.

use common::ids::JobId;
use tokio::time::Instant;

use super::effect::Effect;

/// Context for handling one input.
#[derive(Debug)]
pub(super) struct InputContext {
    /// Time of the input.
    pub(super) now: Instant,
    /// Effects so far, in order.
    pub(super) effects: Vec<Effect>,
}

impl InputContext {
    /// Begins with no effects.
    pub(super) fn new(now: Instant) -> Self {
        Self { now, effects: Vec::new() }
    }

    /// Requests the states of jobs that others wait for and that the scheduler does not know: it does not learn of their
    /// ends.
    pub(super) fn read_dependencies(&mut self, jobs: Vec<JobId>) {
        if !jobs.is_empty() {
            self.push(Effect::ReadDependencies(jobs));
        }
    }

    /// Adds an effect after the others.
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}
