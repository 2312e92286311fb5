//! What can happen next, and how likely it is in one seed: some seeds cut connections, some lose power, few do all.

use fastrand::Rng;

use crate::clocks::Side;

/// One step of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker tells an event.
    Append,
    /// A worker prints.
    Print,
    /// A worker ends.
    Finish,
    /// The agent ends a run that its last life left.
    EndLost,
    /// The agent connects.
    Dial,
    /// The agent sends.
    Send,
    /// The agent takes a frame.
    Hear,
    /// The relay takes a frame.
    Receive,
    /// The relay commits a group.
    Commit,
    /// Somebody launches a job.
    Launch,
    /// The relay starts, if it is down.
    Start,
    /// The connection breaks.
    Cut,
    /// One direction loses everything from now on.
    LoseWay,
    /// A frame is sent twice.
    Replay,
    KillRelay,
    PowerRelay,
    KillAgent,
    PowerAgent,
    /// The agent's state folder is gone.
    WipeAgent,
    /// The agent gets no time for a while.
    FreezeAgent,
    /// The relay gets no time for a while.
    FreezeRelay,
    /// A wall clock is set by an hour.
    SetClock,
    /// The relay is killed, and a job's record is something else then.
    SpoilRecord,
    /// A segment of a job's spool is cut, gone, or a folder.
    SpoilSpool,
    /// Somebody wants a job ended.
    Cancel,
    /// A request of a daemon that has died lies around.
    LeaveRequest,
}

impl Action {
    /// The side that has to run for it.
    pub(crate) fn side(self) -> Option<Side> {
        match self {
            Self::Append
            | Self::Print
            | Self::Finish
            | Self::EndLost
            | Self::Dial
            | Self::Send
            | Self::Hear
            | Self::Replay => Some(Side::Agent),
            Self::Receive | Self::Commit | Self::Launch => Some(Side::Relay),
            _ => None,
        }
    }
}

/// Work and how often it is done.
const WORK: [(Action, u32); 11] = [
    (Action::Append, 200),
    (Action::Print, 50),
    (Action::Finish, 8),
    (Action::EndLost, 40),
    (Action::Dial, 80),
    (Action::Send, 250),
    (Action::Hear, 300),
    (Action::Receive, 300),
    (Action::Commit, 150),
    (Action::Launch, 40),
    (Action::Start, 80),
];

/// Faults and how often they come, before a seed multiplies each by 0 to 3.
const FAULTS: [(Action, u32); 15] = [
    (Action::Cut, 12),
    (Action::LoseWay, 4),
    (Action::Replay, 8),
    (Action::KillRelay, 5),
    (Action::PowerRelay, 5),
    (Action::KillAgent, 5),
    (Action::PowerAgent, 5),
    (Action::WipeAgent, 1),
    (Action::FreezeAgent, 3),
    (Action::FreezeRelay, 3),
    (Action::SetClock, 3),
    (Action::SpoilRecord, 2),
    (Action::SpoilSpool, 1),
    (Action::Cancel, 4),
    (Action::LeaveRequest, 3),
];

/// The mix of a seed.
#[derive(Debug)]
pub(crate) struct Mix {
    weights: Vec<(Action, u32)>,
    all: u32,
    /// Steps before the healing.
    pub(crate) chaos: u64,
    /// Jobs that are launched at most.
    pub(crate) jobs: usize,
    /// Jobs that the agent runs at once.
    pub(crate) capacity: u32,
}

impl Mix {
    pub(crate) fn drawn(rng: &mut Rng) -> Self {
        let mut weights = WORK.to_vec();
        weights.extend(FAULTS.map(|(action, weight)| (action, weight * rng.u32(0..=3))));
        Self {
            all: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
            chaos: rng.u64(150..900),
            jobs: rng.usize(1..=4),
            capacity: rng.u32(1..=3),
        }
    }

    pub(crate) fn draw(&self, rng: &mut Rng) -> Action {
        let mut at = rng.u32(..self.all);
        for (action, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *action,
            }
        }
        Action::Commit
    }
}
