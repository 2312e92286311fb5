//! Actions and their probabilities in one seed: some seeds cut connections, some lose power, few do all.

use fastrand::Rng;

use crate::clocks::Side;

/// One step of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker reports an event.
    Append,
    /// A worker prints output.
    Print,
    /// A worker ends.
    Finish,
    /// The agent ends a run that its previous process left.
    EndLost,
    /// The agent connects.
    Dial,
    /// The agent sends.
    Send,
    /// The agent receives a frame.
    Hear,
    /// The relay receives a frame.
    Receive,
    /// The relay commits a group.
    Commit,
    /// A job is launched.
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
    /// The agent's state folder is removed.
    WipeAgent,
    /// The agent is frozen for a while.
    FreezeAgent,
    /// The relay is frozen for a while.
    FreezeRelay,
    /// A wall clock is set by an hour.
    SetClock,
    /// The relay is killed, and the record of a job is replaced meanwhile.
    SpoilRecord,
    /// A segment of a job's spool is cut, removed, or replaced by a folder.
    SpoilSpool,
    /// A cancel is requested.
    Cancel,
    /// A request of a daemon that has died is left behind.
    LeaveRequest,
}

impl Action {
    /// The side that has to be running for the action.
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

/// Regular actions with their weights.
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

/// Faults with their weights, before a seed multiplies each by 0 to 3.
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

/// Mix of actions of a seed.
#[derive(Debug)]
pub(crate) struct Mix {
    weights: Vec<(Action, u32)>,
    all: u32,
    /// Steps before the healing.
    pub(crate) chaos: u64,
    /// Maximum number of launched jobs.
    pub(crate) jobs: usize,
    /// Number of jobs that the agent runs at once.
    pub(crate) capacity: u32,
    /// True if jobs wait for other jobs, for folders and for slots of their groups.
    pub(crate) has_schedule: bool,
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
            has_schedule: rng.bool(),
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
