//! Clocks of both machines: the real time, and the time that each machine's clocks show.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

/// The relay's wall clock at the beginning, in seconds since 1970.
const BEGIN: i64 = 1_767_323_045;
/// Difference of the wall clocks, and the time by which one is set.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Clocks of the agent's and the relay's machine.
#[derive(Debug)]
pub(crate) struct Clocks {
    /// Real time: the time that has passed since the beginning, whatever the clocks of the machines show.
    pub(crate) now: Duration,
    pub(crate) agent: Arc<Mutex<worker_agent::internals::SimulatedClocks>>,
    pub(crate) relay: Arc<Mutex<relay::internals::SimulatedTime>>,
}

/// The agent's or the relay's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Agent,
    Relay,
}

impl Clocks {
    /// Creates machines that were booted at different times, and whose clocks may differ by an hour.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let wall = Timestamp::from_second(BEGIN).unwrap_or_default();
        let off = HOUR * rng.i32(-1..=1);
        let agent = worker_agent::internals::SimulatedClocks {
            monotonic: Duration::from_secs(7_000),
            wall: wall + off,
        };
        let relay = relay::internals::SimulatedTime { monotonic: Duration::from_secs(90), wall };
        Self { now: Duration::ZERO, agent: Arc::new(Mutex::new(agent)), relay: Arc::new(Mutex::new(relay)) }
    }

    /// Advances the clocks of both machines.
    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        (agent.monotonic, agent.wall) = (agent.monotonic + time, agent.wall + time);
        let mut relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
        (relay.monotonic, relay.wall) = (relay.monotonic + time, relay.wall + time);
    }

    /// Current reading of the agent's monotonic clock.
    pub(crate) fn agent_monotonic(&self) -> Duration {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner).monotonic
    }

    /// Sets the wall clock of a side an hour forward or back.
    pub(crate) fn set(&self, side: Side, forward: bool) {
        let step = if forward { HOUR } else { -HOUR };
        match side {
            Side::Agent => self.agent.lock().unwrap_or_else(PoisonError::into_inner).wall += step,
            Side::Relay => self.relay.lock().unwrap_or_else(PoisonError::into_inner).wall += step,
        }
    }
}
