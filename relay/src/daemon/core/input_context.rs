//! Context for handling one input: the time, and the effects that the core has requested so far.

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
    /// Creates a context without effects.
    pub(super) fn new(now: Instant) -> Self {
        Self { now, effects: Vec::new() }
    }

    /// Requests the states of dependencies whose ends the scheduler does not learn, because it does not know these
    /// jobs.
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
