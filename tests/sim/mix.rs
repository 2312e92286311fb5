//! Actions of the simulation and their probabilities in one seed: most seeds have only some of the faults.

use fastrand::Rng;

use crate::clocks::Side;

/// An action of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A worker reports an event.
    ReportEvents,
    /// A worker prints output.
    PrintOutput,
    /// A worker ends, and the agent records the outcome.
    FinishRun,
    /// The agent records the outcome of a run that its previous process has left without one.
    EndLostRun,
    /// The agent connects.
    Connect,
    /// The agent sends.
    Send,
    /// The agent receives a frame.
    ReceiveAtAgent,
    /// The relay receives a frame.
    ReceiveAtRelay,
    /// The relay commits some of the messages that wait.
    Commit,
    /// A job is launched.
    Launch,
    /// The relay starts, if it is down.
    Start,
    /// The connection breaks.
    CutConnection,
    /// One direction of the connection loses every frame from now on.
    LoseDirection,
    /// A frame is sent twice.
    Replay,
    KillRelay,
    /// The power of the relay's machine fails.
    PowerRelay,
    KillAgent,
    /// The power of the agent's machine fails.
    PowerAgent,
    /// The agent is killed, and its state directory is removed.
    WipeAgent,
    /// The agent is frozen for a while.
    FreezeAgent,
    /// The relay is frozen for a while.
    FreezeRelay,
    /// The wall clock of one side is set an hour forward or back.
    SetClock,
    /// The relay is killed, and the record of a job is replaced before the relay starts again.
    ReplaceRecord,
    /// A segment of a job's spool is cut, removed, or replaced by a folder.
    DamageSpool,
    /// A cancel is requested.
    Cancel,
    /// A request appears that was meant for an earlier daemon.
    LeaveRequest,
}

impl Action {
    /// Returns the side that must not be frozen for the action.
    pub(crate) fn side(self) -> Option<Side> {
        match self {
            Self::ReportEvents
            | Self::PrintOutput
            | Self::FinishRun
            | Self::EndLostRun
            | Self::Connect
            | Self::Send
            | Self::ReceiveAtAgent
            | Self::Replay => Some(Side::Agent),
            Self::ReceiveAtRelay | Self::Commit | Self::Launch => Some(Side::Relay),
            _ => None,
        }
    }
}

/// Regular actions with their weights.
const WORK: [(Action, u32); 11] = [
    (Action::ReportEvents, 200),
    (Action::PrintOutput, 50),
    (Action::FinishRun, 8),
    (Action::EndLostRun, 40),
    (Action::Connect, 80),
    (Action::Send, 250),
    (Action::ReceiveAtAgent, 300),
    (Action::ReceiveAtRelay, 300),
    (Action::Commit, 150),
    (Action::Launch, 40),
    (Action::Start, 80),
];

/// Faults with their weights, before a seed multiplies each by 0 to 3.
const FAULTS: [(Action, u32); 15] = [
    (Action::CutConnection, 12),
    (Action::LoseDirection, 4),
    (Action::Replay, 8),
    (Action::KillRelay, 5),
    (Action::PowerRelay, 5),
    (Action::KillAgent, 5),
    (Action::PowerAgent, 5),
    (Action::WipeAgent, 1),
    (Action::FreezeAgent, 3),
    (Action::FreezeRelay, 3),
    (Action::SetClock, 3),
    (Action::ReplaceRecord, 2),
    (Action::DamageSpool, 1),
    (Action::Cancel, 4),
    (Action::LeaveRequest, 3),
];

/// Probabilities of the actions, and other settings, of one seed.
#[derive(Debug)]
pub(crate) struct Mix {
    weights: Vec<(Action, u32)>,
    total_weight: u32,
    /// Number of steps before the healing.
    pub(crate) chaos_steps: u64,
    /// Maximum number of launched jobs.
    pub(crate) max_jobs: usize,
    /// Number of jobs that the agent runs at once.
    pub(crate) capacity: u32,
    /// True if jobs wait for other jobs, for folders and for slots of their groups.
    pub(crate) has_schedule: bool,
}

impl Mix {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut weights = WORK.to_vec();
        weights.extend(FAULTS.map(|(action, weight)| (action, weight * rng.u32(0..=3))));
        Self {
            total_weight: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
            chaos_steps: rng.u64(150..900),
            max_jobs: rng.usize(1..=4),
            capacity: rng.u32(1..=3),
            has_schedule: rng.bool(),
        }
    }

    pub(crate) fn draw_action(&self, rng: &mut Rng) -> Action {
        let mut at = rng.u32(..self.total_weight);
        for (action, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *action,
            }
        }
        Action::Commit
    }
}
