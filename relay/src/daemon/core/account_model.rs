//! A model of a relay whose queue may be held, and of the writer and the agents around it. It knows on its own when no job
//! may start.

use std::collections::{BTreeMap, BTreeSet};

use common::event::{EventBody, FailureKind};
use common::hold::{Hold, OnQuota, is_plausible_end};
use common::ids::JobId;
use common::job::Runner;
use common::record::{JobRecord, State};
use common::wire::RelayFrame;
use jiff::Timestamp;

use super::job_queue::GroupLimits;
use super::scheduler::{Assignment, Scheduler};
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
    /// Agents whose connection was cut before they have read a frame.
    cut_off: Vec<&'static str>,
    /// Jobs that pause, as far as the relay has seen.
    seen_pauses: BTreeSet<JobId>,
    belief: Option<Belief>,
    /// Job that tried the account before the input that is handled. It may start just when another one takes its place.
    last_probe: Option<JobId>,
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
            cut_off: Vec::new(),
            seen_pauses: BTreeSet::new(),
            belief: None,
            last_probe: None,
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
        let active: Vec<_> =
            self.records.values().filter(|record| !record.state.is_final()).cloned().collect();
        let paused = active.iter().filter(|record| record.held.is_some());
        self.seen_pauses = paused.map(|record| record.job.clone()).collect();
        self.handle_unchecked(Input::RegistryOpened(active))
    }

    /// Passes an input on after which the relay's own belief counts. It has tests of its own.
    fn handle_unchecked(&mut self, input: Input) -> Outcome {
        self.last_probe = self.probe();
        let effects = self.scene.core.handle(input, self.scene.now);
        let next = |hold: &Hold| hold.next_try_at.unwrap_or(at(self.second));
        let belief = |hold: &Hold| match hold.kind {
            FailureKind::Auth => Belief::Refused,
            _ => hold.until.map_or(Belief::Unknown(next(hold).min(at(self.second))), Belief::Until),
        };
        self.belief = self.scene.core.scheduler.account_hold.current().map(belief);
        self.carry_out(effects)
    }

    /// Passes an input on, and checks what the relay lets jobs do.
    fn handle(&mut self, input: Input) -> Outcome {
        let is_any_waiting = self.is_any_job_waiting();
        self.last_probe = self.probe();
        let effects = self.scene.core.handle(input, self.scene.now);
        let hold = &self.scene.core.scheduler.account_hold;
        let (now, is_held) = (at(self.second), hold.current().is_some());
        match self.belief {
            Some(belief) if !is_held => {
                let is_over = matches!(belief, Belief::Until(end) if now >= end);
                let may_end = self.may_end || is_over || !is_any_waiting;
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

    /// Returns true if the relay knows a job that could try the account.
    fn is_any_job_waiting(&self) -> bool {
        let scheduler = &self.scene.core.scheduler;
        scheduler.jobs.iter().any(|(id, job)| {
            // A job that is held alone does not try.
            let is_held_alone = scheduler.own_holds.current(id).is_some();
            let is_running = matches!(job.assignment, Assignment::Running(_));
            let is_paused = is_running && job.account.held.is_some() && !is_held_alone;
            job.account.waits && (job.assignment == Assignment::Queued || is_paused)
        })
    }

    /// Returns the job that tries the account.
    fn probe(&self) -> Option<JobId> {
        self.scene.core.scheduler.account_hold.probe().map(|probe| probe.job.clone())
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Outcome {
        for effect in effects {
            match effect {
                Effect::Offer { job, connection: Some(connection), .. } => {
                    self.check_start(&job)?;
                    self.accept(&job, &connection);
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
        while let Some(agent) = self.cut_off.pop() {
            self.disconnect(agent)?;
        }
        Ok(())
    }

    /// Checks that the relay does not know of a limit that keeps a job from its start.
    fn check_start(&self, job: &JobId) -> Outcome {
        let Some(belief) = self.belief else { return Ok(()) };
        let waits = self.records.get(job).is_some_and(|record| {
            record.runner == Runner::Codex && record.on_quota == OnQuota::Wait && !record.state.is_final()
        });
        let is_probe = [self.probe(), self.last_probe.clone()].contains(&Some(job.clone()));
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

    /// Cuts an agent off with some probability, before it has read a frame.
    fn is_cut_off(&mut self, to: &ConnectionId) -> bool {
        let connection = self.connections.iter().find(|(agent, _)| ***agent == *to.agent);
        let Some((agent, _)) = connection.filter(|(_, number)| **number == to.number) else { return true };
        let is_cut_off = self.random.u8(..) < 30;
        self.cut_off.extend(is_cut_off.then_some(*agent));
        is_cut_off
    }

    fn accept(&mut self, job: &JobId, to: &ConnectionId) {
        if !self.is_cut_off(to) {
            self.change(job, |record| {
                (record.state, record.held, record.epoch) = (State::Running, None, 1);
                record.agent = Some(to.agent.to_string());
            });
        }
    }

    fn continue_job(&mut self, job: &JobId, to: &ConnectionId) {
        if !self.is_cut_off(to) {
            self.change(job, |record| record.held = None);
        }
    }

    /// Shows the relay the newest record of a job.
    fn show(&mut self, job: &JobId) -> Outcome {
        self.unseen.remove(job);
        let Some(record) = self.records.get(job).cloned() else { return Ok(()) };
        let is_probe = self.probe().as_ref() == Some(job);
        let was_paused = self.seen_pauses.remove(job);
        if record.held.is_some() {
            self.seen_pauses.insert(job.clone());
        }
        let report = self.reports.remove(job);
        if was_paused && record.held.is_some() {
            // The relay can't see that the job went on in between, and pauses anew.
            return self.handle_unchecked(Input::RecordsChanged(BTreeMap::from([(job.clone(), record)])));
        }
        if let Some(report) = report.filter(|_| !self.is_lost(&record)) {
            self.learn(report, is_probe);
        }
        let has_answer = record.model_usage.is_some() && record.model_problem.is_none();
        self.may_end = has_answer && (is_probe || self.belief == Some(Belief::Refused));
        if self.bug == Some(PlantedBug::LosesAnswers) && has_answer {
            return Ok(());
        }
        self.handle(Input::RecordsChanged(BTreeMap::from([(job.clone(), record)])))
    }

    /// Returns true if the relay learns nothing from a report: it knows the problem, which the model's answer to another
    /// job has disproved, or the job has gone on since.
    fn is_lost(&self, record: &JobRecord) -> bool {
        let job = self.scene.core.scheduler.jobs.get(&record.job);
        let has_gone_on = record.held.is_none() && !record.state.is_final();
        job.is_some_and(|job| {
            job.account.problem == record.model_problem && (job.account.is_disproved || has_gone_on)
        })
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
