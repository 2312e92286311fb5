//! A model of a relay whose queue may be held, and of the writer and the agents around it. It knows on its own when no job
//! may start.

use std::collections::{BTreeMap, BTreeSet};

use common::event::EventBody;
use common::hold::{Hold, OnQuota, is_plausible_end};
use common::ids::JobId;
use common::job::Runner;
use common::record::{JobRecord, State};
use common::wire::RelayFrame;
use jiff::Timestamp;

use super::job_queue::GroupLimits;
use super::scheduler::Scheduler;
use super::tests::Scene;
use super::*;
use crate::engine_kind::EngineKind;

/// Seconds before a try at a limit whose end is not known.
const FIRST_PAUSE: i64 = 300;

/// State of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    Works,
    /// A limit until this second. True if the server says when it ends.
    Limited(i64, bool),
    Refused,
}

/// Knowledge of a relay that must keep jobs from the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    Until(Timestamp),
    /// No job tries before this instant.
    Unknown(Timestamp),
    Refused,
}

/// A bug that the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlantedBug {
    /// The account's answers are never seen.
    LosesAnswers,
    /// A limit is forgotten when a job is launched.
    ForgetsLimits,
}

struct Model {
    bug: Option<PlantedBug>,
    random: fastrand::Rng,
    scene: Scene,
    /// Seconds since the beginning.
    second: i64,
    account: Account,
    records: BTreeMap<JobId, JobRecord>,
    /// Jobs whose newest record the relay has not seen.
    unseen: BTreeSet<JobId>,
    /// Limits that jobs have met and the relay has not seen yet.
    reports: BTreeMap<JobId, Belief>,
    /// Connection of each connected agent.
    connections: BTreeMap<&'static str, ConnectionNumber>,
    newest_connection: ConnectionNumber,
    belief: Option<Belief>,
    /// True if the input that is handled may end a hold early.
    may_end: bool,
}

type Outcome = Result<(), String>;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_764_352_800 + second).unwrap()
}

fn is_working(record: &JobRecord) -> bool {
    record.state == State::Running && record.held.is_none()
}

impl Model {
    fn new(seed: u64, bug: Option<PlantedBug>) -> Self {
        Self {
            bug,
            random: fastrand::Rng::with_seed(seed),
            scene: Scene::with_settings(EngineKind::Local, false),
            second: 0,
            account: Account::Works,
            records: BTreeMap::new(),
            unseen: BTreeSet::new(),
            reports: BTreeMap::new(),
            connections: BTreeMap::new(),
            newest_connection: 0,
            belief: None,
            may_end: false,
        }
    }

    /// Starts a relay, whose predecessor was killed.
    fn start_relay(&mut self) -> Outcome {
        let now = self.scene.now;
        self.scene = Scene::with_settings(EngineKind::Local, false);
        self.scene.now = now;
        self.scene.core.scheduler = Scheduler::new(GroupLimits::from([("g".parse().unwrap(), 1)]), false);
        self.scene.core.handle(Input::Heartbeat(at(self.second)), now);
        self.connections.clear();
        self.unseen.clear();
        self.reports.clear();
        self.belief = None;
        let active: Vec<_> =
            self.records.values().filter(|record| !record.state.is_final()).cloned().collect();
        // The hold that a relay adopts has tests of its own.
        let effects = self.scene.core.handle(Input::RegistryOpened(active), now);
        let next = |hold: &Hold| hold.next_try_at.unwrap_or(at(self.second));
        let adopted = self.scene.core.scheduler.account_hold.current();
        self.belief = adopted.map(|hold| hold.until.map_or(Belief::Unknown(next(hold)), Belief::Until));
        self.carry_out(effects)
    }

    /// Passes an input on, and checks what the relay lets jobs do.
    fn handle(&mut self, input: Input) -> Outcome {
        let effects = self.scene.core.handle(input, self.scene.now);
        let hold = &self.scene.core.scheduler.account_hold;
        let (now, is_held) = (at(self.second), hold.current().is_some());
        match self.belief {
            Some(belief) if !is_held => {
                let is_over = matches!(belief, Belief::Until(end) if now >= end);
                let may_end = self.may_end || is_over || !self.is_any_job_waiting();
                if !may_end {
                    return Err(format!("{belief:?} has ended too early"));
                }
                self.belief = None;
            }
            None if is_held => return Err(format!("{:?} has no reason", hold.current())),
            _ => {}
        }
        self.may_end = false;
        self.carry_out(effects)
    }

    /// Returns true if a job could try the account.
    fn is_any_job_waiting(&self) -> bool {
        let waits = |record: &&JobRecord| {
            let is_open = record.state == State::Queued || record.held.is_some();
            is_open && !record.state.is_final() && record.on_quota == OnQuota::Wait
        };
        self.records.values().filter(waits).any(|record| record.runner == Runner::Codex)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Outcome {
        for effect in effects {
            match effect {
                Effect::Offer { job, agent, connection } if connection.is_some() => {
                    self.check_start(&job)?;
                    self.accept(&job, &agent);
                }
                Effect::Send { to, frame: RelayFrame::Continue { job } } => {
                    self.check_start(&job)?;
                    self.continue_job(&job, &to);
                }
                Effect::Record { job, body: EventBody::Held { hold } } => {
                    self.change(&job, |record| record.held = hold.map(|hold| *hold));
                }
                Effect::Record { job, body: EventBody::Finished { state, error, .. } } => {
                    self.change(&job, |record| (record.state, record.error) = (state.into(), error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that the relay does not know of a limit that keeps a job from its start.
    fn check_start(&self, job: &JobId) -> Outcome {
        let Some(belief) = self.belief else { return Ok(()) };
        let waits = self.records.get(job).is_some_and(|record| {
            record.runner == Runner::Codex && record.on_quota == OnQuota::Wait && !record.state.is_final()
        });
        let is_probe = self.scene.core.scheduler.account_hold.probe().is_some_and(|probe| probe.job == *job);
        let may_try = matches!(belief, Belief::Unknown(next) if at(self.second) >= next);
        if waits && !(is_probe && may_try) {
            return Err(format!("{job} starts at {} in spite of {belief:?}", at(self.second)));
        }
        Ok(())
    }

    fn change(&mut self, job: &JobId, change: impl FnOnce(&mut JobRecord)) {
        if let Some(record) = self.records.get_mut(job).filter(|record| !record.state.is_final()) {
            change(record);
            self.unseen.insert(job.clone());
        }
    }

    /// Loses an agent's connection with some probability, before it has read a frame.
    fn is_frame_lost(&mut self) -> bool {
        self.random.u8(..) < 30
    }

    fn accept(&mut self, job: &JobId, agent: &str) {
        if !self.is_frame_lost() {
            self.change(job, |record| {
                (record.state, record.held, record.epoch) = (State::Running, None, 1);
                record.agent = Some(agent.to_owned());
            });
        }
    }

    fn continue_job(&mut self, job: &JobId, to: &ConnectionId) {
        if !self.is_frame_lost() && self.connections.get(&*to.agent) == Some(&to.number) {
            self.change(job, |record| record.held = None);
        }
    }

    /// Shows the relay the newest record of a job.
    fn show(&mut self, job: &JobId) -> Outcome {
        self.unseen.remove(job);
        let Some(record) = self.records.get(job).cloned() else { return Ok(()) };
        let is_probe = self.scene.core.scheduler.account_hold.probe().is_some_and(|probe| probe.job == *job);
        if let Some(report) = self.reports.remove(job) {
            self.learn(report, is_probe);
        }
        let has_answer = record.model_usage.is_some() && record.model_problem.is_none();
        self.may_end = has_answer && (is_probe || self.belief == Some(Belief::Refused));
        if self.bug == Some(PlantedBug::LosesAnswers) && has_answer {
            return Ok(());
        }
        self.handle(Input::RecordsChanged(BTreeMap::from([(job.clone(), record)])))
    }

    /// Changes the belief as a report does.
    fn learn(&mut self, report: Belief, is_of_probe: bool) {
        let now = at(self.second);
        let report = match report {
            Belief::Until(end) if is_plausible_end(end, now) => report,
            Belief::Refused => report,
            Belief::Until(_) | Belief::Unknown(_) => Belief::Unknown(at(self.second + FIRST_PAUSE)),
        };
        self.belief = Some(match (self.belief.filter(|_| !is_of_probe), report) {
            (None | Some(Belief::Unknown(_)), Belief::Until(_)) | (None, _) => report,
            (Some(Belief::Until(known)), Belief::Until(end)) => Belief::Until(known.max(end)),
            (Some(belief), _) => belief,
        });
    }

    fn show_one(&mut self) -> Outcome {
        let unseen: Vec<JobId> = self.unseen.iter().cloned().collect();
        let job = self.random.choice(&unseen).cloned();
        job.map_or(Ok(()), |job| self.show(&job))
    }
}

#[cfg(test)]
#[path = "account_model_tests.rs"]
mod tests;
