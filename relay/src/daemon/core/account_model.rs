//! Model of a relay whose queue may be held, and of the account, the writer and the agents around it. From the reports that
//! the relay has seen, the model computes when no job may start, and compares the relay's decisions with that.

use std::collections::{BTreeMap, BTreeSet};

use common::event::{EventBody, FailureKind, JobError};
use common::hold::{Hold, OnQuota, is_plausible_end};
use common::ids::JobId;
use common::job::Runner;
use common::model_usage::ModelProblem;
use common::record::{JobRecord, State};
use common::wire::RelayFrame;
use jiff::Timestamp;

use super::job_queue::GroupLimits;
use super::scheduler::{Assignment, Scheduler};
use super::tests::Scene;
use super::*;
use crate::engine_kind::EngineKind;

/// Seconds before the first try at a limit whose end is not known. They double with each try that fails.
const FIRST_PAUSE: i64 = 300;
/// Maximum seconds before a try.
const MAX_PAUSE: i64 = 3600;

/// State of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    Works,
    /// A limit until this second. True if the server says when it ends.
    Limited(i64, bool),
    Refused,
}

/// Hold that follows from the reports that the relay has seen.
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
    /// True if the relay sees the limits of the account itself.
    has_gateway: bool,
    /// Seconds since the beginning.
    second: i64,
    account: Account,
    records: BTreeMap<JobId, JobRecord>,
    /// Jobs whose newest record the relay has not seen.
    unseen: BTreeSet<JobId>,
    /// Reports that newest records show and the relay has not seen.
    reports: BTreeMap<JobId, Belief>,
    /// Connection of each connected agent.
    connections: BTreeMap<&'static str, ConnectionNumber>,
    newest_connection: ConnectionNumber,
    /// Agents whose connection was cut before they read a frame.
    cut_off: Vec<&'static str>,
    /// Holds of jobs that the relay knows.
    known_holds: BTreeMap<JobId, Hold>,
    belief: Option<Belief>,
    /// Number of failures in a row: the first report, and the tries that have failed since.
    failures: u32,
    /// For each job that is held alone, the instant before which it does not go on.
    own_pauses: BTreeMap<JobId, Timestamp>,
    /// Job that tried the account before the input that is handled. It may start just when another one takes its place.
    last_probe: Option<JobId>,
    /// Second at which the newest probe began.
    probe_started_at: i64,
    /// Probe that can't work while another job could try, and the second since when.
    stuck_probe: Option<(JobId, i64)>,
    /// True if the input that is handled may end a hold early.
    may_end: bool,
    /// True if the input that is handled must end a hold.
    must_end: bool,
}

type Outcome = Result<(), String>;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_764_352_800 + second).unwrap()
}

fn is_working(record: &JobRecord) -> bool {
    record.state == State::Running && record.held.is_none()
}

/// Returns the pause before the next try.
fn pause(failures: u32) -> i64 {
    (FIRST_PAUSE << (failures.clamp(1, 10) - 1)).min(MAX_PAUSE)
}

impl Model {
    fn new(seed: u64, bug: Option<PlantedBug>) -> Self {
        Self {
            bug,
            random: fastrand::Rng::with_seed(seed),
            scene: Scene::with_settings(EngineKind::Local, false),
            has_gateway: seed.is_multiple_of(2),
            second: 0,
            account: Account::Works,
            records: BTreeMap::new(),
            unseen: BTreeSet::new(),
            reports: BTreeMap::new(),
            connections: BTreeMap::new(),
            newest_connection: 0,
            cut_off: Vec::new(),
            known_holds: BTreeMap::new(),
            belief: None,
            failures: 0,
            own_pauses: BTreeMap::new(),
            last_probe: None,
            probe_started_at: 0,
            stuck_probe: None,
            may_end: false,
            must_end: false,
        }
    }

    /// Starts a relay, whose predecessor was killed.
    fn start_relay(&mut self) -> Outcome {
        let now = self.scene.now;
        self.scene = Scene::with_settings(EngineKind::Local, false);
        self.scene.now = now;
        let scheduler = &mut self.scene.core.scheduler;
        *scheduler = Scheduler::new(GroupLimits::from([("g".parse().unwrap(), 1)]), false);
        scheduler.has_gateway = self.has_gateway;
        self.scene.core.handle(Input::Heartbeat(at(self.second)), now);
        self.connections.clear();
        self.unseen.clear();
        self.reports.clear();
        self.own_pauses = self
            .records
            .values()
            .filter_map(|record| Some((record.job.clone(), self.own_try(record)?)))
            .collect();
        let active: Vec<_> =
            self.records.values().filter(|record| !record.state.is_final()).cloned().collect();
        let recorded = |record: &JobRecord| Some((record.job.clone(), record.held.clone()?));
        self.known_holds = active.iter().filter_map(recorded).collect();
        let next_try_at = active.iter().filter_map(|record| self.recorded_try(record)).max();
        let effects = self.scene.core.handle(Input::RegistryOpened(active), now);
        let current = self.scene.core.scheduler.account_hold.current();
        let adopted = current.and_then(|hold| hold.next_try_at);
        if adopted != next_try_at {
            return Err(format!("the relay tries next at {adopted:?}, and the records say {next_try_at:?}"));
        }
        let until = current.and_then(|hold| hold.until).map(Belief::Until);
        self.belief = until.or(next_try_at.map(Belief::Unknown));
        self.failures = u32::from(self.belief.is_some());
        self.carry_out(effects)
    }

    /// Returns the time of the next try that the record of a job asks a new relay for.
    fn recorded_try(&self, record: &JobRecord) -> Option<Timestamp> {
        let is_believed = record.runner == Runner::Codex && !self.is_own_hold(record);
        let hold = record.held.as_ref().filter(|hold| is_believed && hold.kind == FailureKind::UsageLimit)?;
        let now = at(self.second);
        let planned = hold.next_try_at.or(hold.until).unwrap_or(now);
        Some(if planned <= now || is_plausible_end(planned, now) { planned } else { now })
    }

    /// Returns the time of the next try of a job that a new relay holds alone. A time in the far future is not believed.
    fn own_try(&self, record: &JobRecord) -> Option<Timestamp> {
        let is_own = record.runner == Runner::Codex && self.is_own_hold(record);
        let next_try_at = record.held.as_ref().filter(|_| is_own)?.next_try_at?;
        (next_try_at <= at(self.second + MAX_PAUSE)).then_some(next_try_at)
    }

    /// Returns true if the recorded hold of a job comes from a report that only Codex has seen.
    fn is_own_hold(&self, record: &JobRecord) -> bool {
        let is_limit = |problem: &ModelProblem| problem.kind == FailureKind::UsageLimit;
        let is_seen = record.state == State::Queued || record.model_problem.as_ref().is_some_and(is_limit);
        self.has_gateway && !is_seen
    }

    /// Passes an input on, and checks the relay's decisions.
    fn handle(&mut self, input: Input) -> Outcome {
        let is_any_waiting = self.is_any_job_waiting();
        self.last_probe = self.probe();
        let effects = self.scene.core.handle(input, self.scene.now);
        let hold = &self.scene.core.scheduler.account_hold;
        let (now, is_held) = (at(self.second), hold.current().is_some());
        let (may_end, must_end) = (self.may_end || self.must_end, self.must_end);
        (self.may_end, self.must_end) = (false, false);
        match self.belief {
            Some(belief) if !is_held => {
                let is_over = matches!(belief, Belief::Until(end) if now >= end);
                if !(may_end || is_over || !is_any_waiting) {
                    return Err(format!("{belief:?} has ended too early"));
                }
                self.belief = None;
            }
            Some(belief) if must_end => return Err(format!("{belief:?} has not ended")),
            None if is_held => return Err(format!("{:?} has no reason", hold.current())),
            _ => {}
        }
        self.check_new_probe(&effects)?;
        self.carry_out(effects)
    }

    /// Checks that a new probe begins at once.
    fn check_new_probe(&mut self, effects: &[Effect]) -> Outcome {
        let Some(probe) = self.probe().filter(|probe| self.last_probe.as_ref() != Some(probe)) else {
            return Ok(());
        };
        (self.probe_started_at, self.stuck_probe) = (self.second, None);
        let begins = effects.iter().any(|effect| match effect {
            Effect::Offer { job, .. } | Effect::Send { frame: RelayFrame::Continue { job }, .. } => {
                *job == probe
            }
            _ => false,
        });
        if begins { Ok(()) } else { Err(format!("{probe} should try the account, and does not begin")) }
    }

    /// Returns true if the relay knows a job that could try the account.
    fn is_any_job_waiting(&self) -> bool {
        let scheduler = &self.scene.core.scheduler;
        scheduler.jobs.iter().any(|(id, job)| {
            // A job that is held alone does not try.
            let is_held_alone = scheduler.own_holds.current(id).is_some();
            let is_running = matches!(job.assignment, Assignment::Running(_));
            let is_paused = is_running && job.account.held.is_some() && !is_held_alone;
            let is_queued = job.assignment == Assignment::Queued && scheduler.blocker(id).is_none();
            let is_cancelled = scheduler.requested_cancels.contains_key(id);
            job.account.waits && !is_cancelled && (is_queued || is_paused)
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
                Effect::Send { to, frame: RelayFrame::Cancel { job, .. } } => self.cancel_job(&job, &to),
                Effect::Record { job, body: EventBody::Held { hold } } => {
                    if hold.is_some() && self.is_open(&job) && !self.waits(&job) {
                        return Err(format!("{job} is held, and does not wait for the end of a limit"));
                    }
                    let hold = hold.map(|hold| *hold);
                    self.set_known_hold(&job, hold.clone());
                    self.change(&job, |record| record.held = hold);
                }
                Effect::Record { job, body: EventBody::Finished { state, error, .. } } => {
                    self.end(&job, state.into(), error);
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
        let now = at(self.second);
        if let Some(end) = self.own_pauses.get(job).filter(|end| now < **end) {
            return Err(format!("{job} goes on at {now}, before {end}"));
        }
        let Some(belief) = self.belief.filter(|_| self.waits(job)) else { return Ok(()) };
        let is_probe = [self.probe(), self.last_probe.clone()].contains(&Some(job.clone()));
        let may_try = matches!(belief, Belief::Unknown(next) if now >= next);
        if is_probe && may_try {
            Ok(())
        } else {
            Err(format!("{job} starts at {now}, although the relay knows {belief:?}"))
        }
    }

    /// Returns true for a job that waits for the end of a limit.
    fn waits(&self, job: &JobId) -> bool {
        self.records.get(job).is_some_and(|record| {
            record.runner == Runner::Codex && record.on_quota == OnQuota::Wait && !record.state.is_final()
        })
    }

    fn is_open(&self, job: &JobId) -> bool {
        self.records.get(job).is_some_and(|record| !record.state.is_final())
    }

    /// Shows the relay the newest record of a job.
    fn show_record(&mut self, job: &JobId) -> Outcome {
        self.unseen.remove(job);
        let Some(record) = self.records.get(job).cloned() else { return Ok(()) };
        let is_probe = self.probe().as_ref() == Some(job);
        let is_new_pause = record.held.is_some() && !self.is_known_pause(&record);
        self.set_known_hold(job, record.held.clone());
        let report = self.reports.remove(job).filter(|_| self.is_report(&record, is_new_pause));
        let believed = report.filter(|_| self.is_believed(&record));
        if let Some(report) = believed {
            self.apply_report(report, is_probe);
        }
        let has_answer = record.model_usage.is_some() && record.model_problem.is_none();
        if self.bug == Some(PlantedBug::LosesAnswers) && has_answer {
            return Ok(());
        }
        let has_step = record.steps.last().is_some_and(|step| step.started_at > at(self.probe_started_at));
        let is_refused = self.belief == Some(Belief::Refused);
        let ends_refusal = is_refused && has_answer && self.has_new_answer(&record);
        let is_answer = ends_refusal || is_probe && record.state == State::Completed;
        self.may_end = is_probe && (has_answer || has_step) || is_refused && has_answer;
        self.must_end = is_answer && believed.is_none();
        if report.is_some() && believed.is_none() && is_new_pause && !is_answer && !is_probe {
            self.own_pauses.insert(job.clone(), at(self.second + FIRST_PAUSE));
        }
        self.handle(Input::RecordsChanged(BTreeMap::from([(job.clone(), record)])))
    }

    /// Returns true if the relay knows that a job pauses. The hold of a queued job says nothing about its run.
    fn is_known_pause(&self, record: &JobRecord) -> bool {
        let is_running = self.scene.core.scheduler.running_jobs().any(|running| *running == record.job);
        let known = self.known_holds.get(&record.job);
        known.is_some() && (is_running || known == record.held.as_ref())
    }

    fn set_known_hold(&mut self, job: &JobId, hold: Option<Hold>) {
        match hold {
            Some(hold) => drop(self.known_holds.insert(job.clone(), hold)),
            None => drop(self.known_holds.remove(job)),
        }
    }

    /// Returns true if the record has more answers than the relay knows.
    fn has_new_answer(&self, record: &JobRecord) -> bool {
        let known = self.scene.core.scheduler.jobs.get(&record.job).map_or(0, |job| job.account.answers);
        record.model_usage.is_some_and(|used| used.answers > known)
    }

    /// Returns true if a record contains a problem that the relay has not seen.
    fn is_new_problem(&self, record: &JobRecord) -> bool {
        let job = self.scene.core.scheduler.jobs.get(&record.job);
        job.is_some_and(|job| job.account.problem != record.model_problem)
    }

    /// Returns true if a record shows the relay that the job has met a limit. It does not if the job has gone on since,
    /// and the relay knows the problem from before.
    fn is_report(&self, record: &JobRecord, is_new_pause: bool) -> bool {
        let is_new_problem = record.model_problem.is_some() && self.is_new_problem(record);
        is_new_pause || is_new_problem || record.state.is_final()
    }

    /// Returns true if a report holds the queue. One that only Codex has seen does not if there is a gateway. One that the
    /// model's answer to another job has disproved has to name another problem.
    fn is_believed(&self, record: &JobRecord) -> bool {
        let job = self.scene.core.scheduler.jobs.get(&record.job);
        let is_disproved = job.is_some_and(|job| job.account.is_disproved) && !self.is_new_problem(record);
        !is_disproved && (record.model_problem.is_some() || !self.has_gateway)
    }

    /// Updates the belief with a report.
    fn apply_report(&mut self, report: Belief, is_of_probe: bool) {
        let now = at(self.second);
        let known = self.belief.filter(|_| !is_of_probe);
        if known.is_none() {
            self.failures = if is_of_probe { self.failures + 1 } else { 1 };
        }
        let report = match report {
            Belief::Until(end) if is_plausible_end(end, now) => report,
            Belief::Refused => report,
            Belief::Until(_) | Belief::Unknown(_) => Belief::Unknown(at(self.second + pause(self.failures))),
        };
        self.belief = Some(match (known, report) {
            (None | Some(Belief::Unknown(_)), Belief::Until(_)) | (None, _) => report,
            (Some(Belief::Until(known)), Belief::Until(end)) => Belief::Until(known.max(end)),
            (Some(belief), _) => belief,
        });
    }
}

#[cfg(test)]
#[path = "account_model_tests.rs"]
mod tests;
