//! An account whose limits come and go, jobs that meet them, and agents and relays that are cut off at random times.

use std::time::Duration;

use common::job::StepKind;
use common::model_usage::{ModelProblem, ModelUsage};
use common::step::Step;

use super::super::tests::{agent_connected, found_record, record, request_filed};
use super::*;
use crate::registry::requests::DaemonRequest;

const AGENTS: [&str; 2] = ["x", "y"];
/// Seconds before the next search for a job that can try.
const SEARCH_PAUSE: i64 = 5;

impl Model {
    fn launch(&mut self, number: usize) -> Outcome {
        let queued = record(&format!("j#{number}"), State::Queued, None);
        let is_command_line = self.random.u8(..) < 40;
        let on_quota = if self.random.u8(..) < 40 { OnQuota::Fail } else { OnQuota::Wait };
        let group = (self.random.u8(..) < 80).then(|| "g".parse().unwrap());
        let runner = if is_command_line { Runner::Shell } else { Runner::Codex };
        let created_at = at(self.second);
        // Some jobs work in the same folder, one after the other.
        let workspace = if self.random.u8(..) < 60 { "/w/shared".to_owned() } else { queued.workspace };
        let launched = JobRecord { runner, on_quota, group, created_at, workspace, ..queued };
        self.records.insert(launched.job.clone(), launched.clone());
        if self.bug == Some(PlantedBug::ForgetsLimits) {
            self.scene.core.scheduler.account_hold.end(None);
        }
        self.handle(found_record(launched))
    }

    /// Ends a job that has not ended by itself. Its record then shows no limit.
    pub(super) fn end(&mut self, job: &JobId, state: State, error: Option<JobError>) {
        if self.is_open(job) {
            self.reports.remove(job);
            self.change(job, |record| (record.state, record.error, record.held) = (state, error, None));
        }
    }

    pub(super) fn change(&mut self, job: &JobId, change: impl FnOnce(&mut JobRecord)) {
        if let Some(record) = self.records.get_mut(job).filter(|record| !record.state.is_final()) {
            change(record);
            self.unseen.insert(job.clone());
        }
    }

    /// Cuts an agent off with some probability, before it reads a frame. Returns true if it does not read the frame.
    fn cut_off_sometimes(&mut self, to: &ConnectionId) -> bool {
        let connection = self.connections.iter().find(|(agent, _)| ***agent == *to.agent);
        let Some((agent, _)) = connection.filter(|(_, number)| **number == to.number) else { return true };
        let is_cut_off = self.random.u8(..) < 30;
        self.cut_off.extend(is_cut_off.then_some(*agent));
        is_cut_off
    }

    pub(super) fn accept(&mut self, job: &JobId, to: &ConnectionId) {
        if !self.cut_off_sometimes(to) {
            self.change(job, |record| {
                (record.state, record.held, record.epoch) = (State::Running, None, 1);
                record.agent = Some(to.agent.to_string());
            });
        }
    }

    pub(super) fn continue_job(&mut self, job: &JobId, to: &ConnectionId) {
        if !self.cut_off_sometimes(to) {
            self.change(job, |record| record.held = None);
        }
    }

    pub(super) fn cancel_job(&mut self, job: &JobId, to: &ConnectionId) {
        if !self.cut_off_sometimes(to) {
            self.end(job, State::Cancelled, None);
        }
    }

    /// Lets a working job use the model, or end. `may_disturb` allows it to pause although the account works, and to use the
    /// account up.
    fn work(&mut self, job: &JobId, may_disturb: bool) {
        let (now, account) = (at(self.second), self.account);
        let ends = self.random.bool();
        let Some(record) = self.records.get(job).filter(|record| is_working(record)).cloned() else { return };
        if !record.agent.as_deref().is_some_and(|agent| self.connections.contains_key(agent)) {
            return;
        }
        let new_hold = |kind, message| Hold { kind, message, until: None, next_try_at: None };
        // Command lines do little else, so that some pause while the queue is held.
        let probability = if record.runner == Runner::Shell { 150 } else { 60 };
        let pauses = may_disturb && self.random.u8(..) < probability;
        let is_limited = matches!(account, Account::Limited(..));
        if pauses && !is_limited && record.model_problem.is_none() && record.on_quota == OnQuota::Wait {
            if record.runner == Runner::Codex {
                self.reports.insert(job.clone(), Belief::Unknown(now));
            }
            let report = new_hold(FailureKind::UsageLimit, "forged".to_owned());
            return self.change(job, |record| record.held = Some(report));
        }
        if record.runner == Runner::Shell {
            // The account of command lines is another one.
            let kind = if ends { FailureKind::UsageLimit } else { FailureKind::Auth };
            return self.fail(job, kind, None);
        }
        match account {
            Account::Works => {
                // Some answers use the account up. The newest record no longer shows the last limit.
                if may_disturb && self.random.u8(..) < 60 {
                    self.account = Account::Limited(self.second + 1000, false);
                }
                self.reports.remove(job);
                let step = Step::new_active(now, 3, StepKind::Test, "true".to_owned(), None, None);
                self.change(job, |record| {
                    let answers = record.model_usage.map_or(0, |used| used.answers) + 1;
                    record.model_usage = Some(ModelUsage { answers, ..ModelUsage::default() });
                    (record.model_problem, record.steps) = (None, vec![step]);
                    if ends {
                        record.state = State::Completed;
                    }
                });
            }
            Account::Limited(end, is_known) => {
                let end = is_known.then(|| at(end));
                self.reports.insert(job.clone(), end.map_or(Belief::Unknown(now), Belief::Until));
                if record.on_quota == OnQuota::Fail {
                    return self.fail(job, FailureKind::UsageLimit, end);
                }
                let (kind, message) = (FailureKind::UsageLimit, "used up".to_owned());
                let problem = ModelProblem { kind, message: message.clone(), resets_at: end };
                let hold = new_hold(kind, message);
                self.change(job, |record| {
                    (record.held, record.model_problem) = (Some(hold), Some(problem));
                });
            }
            Account::Refused => {
                self.reports.insert(job.clone(), Belief::Refused);
                self.fail(job, FailureKind::Auth, None);
            }
        }
    }

    fn fail(&mut self, job: &JobId, kind: FailureKind, resets_at: Option<Timestamp>) {
        let message = "refused".to_owned();
        self.change(job, |record| {
            record.model_problem = Some(ModelProblem { kind, message: message.clone(), resets_at });
            (record.state, record.error) = (State::Failed, Some(JobError { kind, message, step: None }));
        });
    }

    fn connect(&mut self, agent: &'static str) -> Outcome {
        if self.connections.contains_key(agent) {
            return Ok(());
        }
        self.newest_connection += 1;
        self.connections.insert(agent, self.newest_connection);
        let runs =
            |record: &&JobRecord| record.agent.as_deref() == Some(agent) && record.state == State::Running;
        let jobs: Vec<String> =
            self.records.values().filter(runs).map(|record| record.job.to_string()).collect();
        let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
        let mut connected = agent_connected(agent, self.newest_connection, &jobs);
        if let Input::Connected(connection) = &mut connected {
            connection.hello.max_jobs = 2;
        }
        self.handle(connected)
    }

    pub(super) fn disconnect(&mut self, agent: &'static str) -> Outcome {
        let Some(number) = self.connections.remove(agent) else { return Ok(()) };
        let connection_id = ConnectionId { agent: agent.into(), number };
        self.handle(Input::Disconnected { connection_id, reason: "it was cut".to_owned() })
    }

    /// Lets time pass. The relay is called whenever it has asked for it.
    fn advance(&mut self, seconds: i64) -> Outcome {
        let target = self.second + seconds;
        for _ in 0..2 * seconds + 10 {
            let deadline = self.scene.core.deadline();
            let due = deadline.map_or(i64::MAX, |at| {
                let remaining = at.saturating_duration_since(self.scene.now);
                i64::try_from(remaining.as_millis().div_ceil(1000)).unwrap()
            });
            let step = due.min(target - self.second);
            self.second += step;
            self.scene.now += Duration::from_secs(step.unsigned_abs());
            if matches!(self.account, Account::Limited(end, _) if self.second >= end) {
                self.account = Account::Works;
            }
            self.handle(Input::Tick)?;
            self.check_stuck_probe()?;
            if self.second == target {
                return Ok(());
            }
        }
        Err(format!(
            "the relay is busy: its deadline is {:?} at {:?}",
            self.scene.core.deadline(),
            self.scene.now
        ))
    }

    /// Checks that a probe which can't work is replaced by another job.
    fn check_stuck_probe(&mut self) -> Outcome {
        let scheduler = &self.scene.core.scheduler;
        let is_connected = |agent: &AgentId| self.connections.contains_key(&**agent);
        let is_paused = |id: &JobId| scheduler.jobs.get(id).is_some_and(|job| job.account.held.is_some());
        let is_able = |id: &JobId, agent| {
            let is_held_alone = scheduler.own_holds.current(id).is_some();
            let is_cancelled = scheduler.requested_cancels.contains_key(id);
            is_connected(agent) && is_paused(id) && self.waits(id) && !is_held_alone && !is_cancelled
        };
        let probe = self.probe();
        let is_other = |id: &JobId| probe.as_ref() != Some(id);
        let is_stuck = |id: &JobId| match scheduler.assignment(id) {
            Some(Assignment::Running(agent)) => is_paused(id) || !is_connected(agent),
            _ => false,
        };
        let has_other = || {
            scheduler.jobs.iter().any(|(id, job)| match &job.assignment {
                Assignment::Running(agent) => is_other(id) && is_able(id, agent),
                _ => false,
            })
        };
        let stuck = probe.clone().filter(|id| is_stuck(id) && has_other());
        let known = self.stuck_probe.take();
        let since =
            known.filter(|(id, _)| Some(id) == stuck.as_ref()).map_or(self.second, |(_, since)| since);
        if stuck.is_some() && self.second - since > FIRST_PAUSE + SEARCH_PAUSE {
            return Err(format!("{probe:?} can't work, and no other job tries"));
        }
        self.stuck_probe = stuck.map(|id| (id, since));
        Ok(())
    }

    /// Lets the user renew the credentials, which the relay notices in one of several ways.
    fn renew_credentials(&mut self) -> Outcome {
        self.account = Account::Works;
        match self.random.u8(..3) {
            0 => self.notice_credentials(Input::CredentialsChanged),
            1 => self.request_up(),
            _ => {
                self.handle(Input::ModelChecked(Some("refused".to_owned())))?;
                self.notice_credentials(Input::ModelChecked(None))
            }
        }
    }

    /// Passes an input on that ends no hold but one for credentials.
    fn notice_credentials(&mut self, input: Input) -> Outcome {
        self.must_end = self.belief == Some(Belief::Refused);
        self.handle(input)
    }

    /// Lets the user run `relay up`, which ends every hold.
    fn request_up(&mut self) -> Outcome {
        self.own_pauses.clear();
        self.must_end = true;
        self.handle(request_filed(DaemonRequest::Up))
    }

    /// Lets the user cancel a job.
    fn cancel_one(&mut self) -> Outcome {
        let open = self.records.values().filter(|record| !record.state.is_final());
        let jobs: Vec<JobId> = open.map(|record| record.job.clone()).collect();
        let Some(job) = self.random.choice(&jobs).cloned() else { return Ok(()) };
        self.handle(request_filed(DaemonRequest::Cancel { job, grace_ms: 0 }))
    }

    fn show_any_record(&mut self) -> Outcome {
        let unseen: Vec<JobId> = self.unseen.iter().cloned().collect();
        let job = self.random.choice(&unseen).cloned();
        job.map_or(Ok(()), |job| self.show_record(&job))
    }

    fn change_account(&mut self) -> Outcome {
        let end = self.second + self.random.i64(1..5000);
        match (self.account, self.random.u8(..4)) {
            (Account::Refused, _) => return self.renew_credentials(),
            (_, 0) => self.account = Account::Refused,
            (_, kind) => self.account = Account::Limited(end, kind == 1),
        }
        Ok(())
    }

    fn act(&mut self) -> Outcome {
        let agent = AGENTS[self.random.usize(..AGENTS.len())];
        match self.random.u8(..42) {
            0 => self.start_relay(),
            1..4 => self.disconnect(agent),
            4..10 => self.connect(agent),
            10 | 11 => self.change_account(),
            12..16 => {
                let seconds = self.random.i64(1..900);
                self.advance(seconds)
            }
            16..30 => {
                let jobs: Vec<JobId> = self.records.keys().cloned().collect();
                if let Some(job) = self.random.choice(&jobs).cloned() {
                    self.work(&job, true);
                }
                Ok(())
            }
            30 if self.random.bool() => self.cancel_one(),
            31 if self.random.bool() => self.request_up(),
            32 if self.random.bool() => self.notice_credentials(Input::CredentialsChanged),
            _ => self.show_any_record(),
        }
    }

    /// Lets everything work, and all jobs end.
    fn finish(&mut self) -> Outcome {
        for _ in 0..40 {
            self.renew_credentials_if_refused()?;
            for agent in AGENTS {
                self.connect(agent)?;
            }
            while let Some(job) = self.unseen.first().cloned() {
                self.show_record(&job)?;
            }
            for job in self.records.keys().cloned().collect::<Vec<_>>() {
                self.work(&job, false);
            }
            self.advance(600)?;
        }
        let open = self.records.values().find(|record| !record.state.is_final());
        open.map_or(Ok(()), |record| {
            Err(format!("{} is left: {:?} {:?}", record.job, record.state, record.held))
        })
    }

    fn renew_credentials_if_refused(&mut self) -> Outcome {
        self.account = Account::Works;
        if self.belief == Some(Belief::Refused) { self.renew_credentials() } else { Ok(()) }
    }
}

fn run_model(seed: u64, bug: Option<PlantedBug>) -> Outcome {
    let mut model = Model::new(seed, bug);
    model.start_relay()?;
    for step in 0..300 {
        if step % 25 == 0 {
            model.launch(step / 25 + 1)?;
        }
        model.act()?;
    }
    model.finish()
}

/// Number of seeds, in ordinary runs and in nightly ones.
const SEEDS: [u64; 2] = [300, 10_000];

#[test]
fn every_job_is_offered_in_the_end_and_none_while_a_known_limit_lasts() {
    let seeds = SEEDS[usize::from(std::env::var_os("RELAY_TEST_NIGHTLY").is_some())];
    for seed in 0..seeds {
        run_model(seed, None).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    }
}

#[test]
fn the_model_finds_planted_bugs() {
    for bug in [PlantedBug::LosesAnswers, PlantedBug::ForgetsLimits] {
        let is_found = (0..100).any(|seed| run_model(seed, Some(bug)).is_err());
        assert!(is_found, "{bug:?}");
    }
}
