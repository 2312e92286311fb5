//! Jobs that are held while the account can't use the model ([`super::account_hold`]): queued jobs are not offered, and
//! running jobs pause in their thread. Pure.

use common::event::{EventBody, FailureKind};
use common::hold::Hold;
use common::ids::JobId;
use common::job::Runner;
use common::model_usage::ModelProblem;
use common::record::{JobRecord, State};
use jiff::{SignedDuration, Timestamp};

use super::account_hold::Try;
use super::account_report::{Report, Source, count_answers};
use super::capacity::AgentId;
use super::handle::Core;
use super::input_context::InputContext;
use super::scheduler::{Action, Assignment, ScheduledJob, Scheduler};

impl Scheduler {
    /// Returns true if a job is held back by the hold of the account.
    pub(super) fn is_held(&self, id: &JobId) -> bool {
        let is_probe = self.account_hold.probe().is_some_and(|probe| probe.job == *id);
        self.account_hold.current().is_some()
            && !is_probe
            && self.jobs.get(id).is_some_and(|job| job.account.waits)
    }

    /// Returns the hold of a job.
    fn hold_of(&self, id: &JobId) -> Option<&Hold> {
        if self.is_held(id) { self.account_hold.current() } else { self.own_holds.current(id) }
    }

    /// Returns true if a running job pauses in its thread, and is not to go on yet.
    pub(super) fn is_paused(&self, id: &JobId) -> bool {
        self.pauses(id) && self.hold_of(id).is_some()
    }

    /// Returns true if a report of a job holds the queue. With the gateway, only answers of the model's server that the
    /// relay has seen itself count. A job that was disproved needs a new one.
    fn is_believed(&self, id: &JobId, report: &Report) -> bool {
        let is_disproved = self.jobs.get(id).is_some_and(|job| job.account.is_disproved);
        match report.source {
            Source::NewAnswer => true,
            Source::Gateway => !is_disproved,
            Source::Codex => !is_disproved && !self.has_gateway,
        }
    }

    /// Learns from a changed record what the job has found out about the account. Call it before
    /// [`Self::update_from_record`], which forgets a job that has ended.
    pub(super) fn observe_account(&mut self, record: &JobRecord, now: Timestamp) -> Vec<Action> {
        let Some(job) = self.jobs.get_mut(&record.job).filter(|_| record.state != State::Queued) else {
            return Vec::new();
        };
        // The hold of a queued job ended when its agent accepted the job.
        if !matches!(job.assignment, Assignment::Running(_)) && record.held != job.account.held {
            job.account.held = None;
        }
        let is_new_hold = record.held.is_some() && job.account.held.is_none();
        let is_new_problem = record.model_problem != job.account.problem;
        let is_problem_over = is_new_problem && record.model_problem.is_none();
        job.account.problem.clone_from(&record.model_problem);
        let has_answer = record.runner == Runner::Codex && count_answers(record) > job.account.answers;
        job.account.answers = count_answers(record);
        job.account.is_disproved &= !is_new_problem;
        if is_new_hold || record.held.is_none() {
            job.account.held.clone_from(&record.held);
        }
        let report = Report::of_record(record, is_new_hold, is_new_problem);
        if let Some(report) = report.clone().filter(|report| self.is_believed(&record.job, report)) {
            self.account_hold.report(&record.job, report, now);
            return self.apply_hold();
        }
        if has_answer && record.model_problem.is_none() && self.account_hold.is_for_credentials() {
            return self.end_account_hold(Some(now));
        }
        let probe = self.account_hold.probe().filter(|probe| probe.job == record.job);
        if probe.is_some_and(|probe| probe.has_answer(record, is_problem_over)) {
            self.disprove_reporter(&record.job);
            return self.end_account_hold(Some(now));
        }
        if probe.is_some() && (record.state.is_final() || report.is_some()) {
            self.account_hold.drop_probe(now);
        }
        match report.filter(|_| is_new_hold) {
            Some(report) => self.hold_alone(&record.job, report, now),
            None => self.continue_again(record),
        }
    }

    /// Lets a job go on whose record shows a hold although none is in force: it may pause anew, and the record in between
    /// was not seen. An agent ignores this for a job that does not pause.
    fn continue_again(&self, record: &JobRecord) -> Vec<Action> {
        let is_held = record.held.is_some() && !record.state.is_final();
        let waits = self.jobs.get(&record.job).is_some_and(|job| job.account.waits);
        let is_in_force = waits && self.account_hold.current().is_some();
        if !is_held || is_in_force || self.own_holds.current(&record.job).is_some() {
            return Vec::new();
        }
        let agent = self.agent_of(&record.job).cloned();
        agent.into_iter().map(|agent| Action::Continue { agent, job: record.job.clone() }).collect()
    }

    /// Holds a job because of a report that does not hold the queue.
    fn hold_alone(&mut self, id: &JobId, report: Report, now: Timestamp) -> Vec<Action> {
        tracing::warn!("{id} reports a usage limit that only its own Codex has seen: no other job is held");
        self.own_holds.hold(id, report, now);
        let mut actions: Vec<Action> = self.report_running_hold(id).into_iter().collect();
        self.count_box(id);
        actions.extend(self.offer_queued());
        actions
    }

    /// Distrusts the job whose report has set the hold, because the model has answered another one.
    fn disprove_reporter(&mut self, answered: &JobId) {
        let reporter = self.account_hold.reporter().filter(|reporter| *reporter != answered).cloned();
        if let Some(job) = reporter.and_then(|reporter| self.jobs.get_mut(&reporter)) {
            job.account.is_disproved = true;
        }
    }

    /// Holds the queue because the budget of the day is used up.
    fn hold_for_budget(&mut self, hold: Hold) -> Vec<Action> {
        self.account_hold.hold_for_budget(hold);
        self.apply_hold()
    }

    /// Goes on with the hold that an earlier relay recorded. Command lines use another account.
    pub(super) fn adopt_hold(&mut self, record: &JobRecord, now: Timestamp) {
        let Some(hold) = record.held.as_ref().filter(|_| record.runner == Runner::Codex) else { return };
        let is_limit = |problem: &ModelProblem| problem.kind == FailureKind::UsageLimit;
        let is_seen = record.state == State::Queued || record.model_problem.as_ref().is_some_and(is_limit);
        if self.has_gateway && !is_seen {
            self.own_holds.adopt(&record.job, hold, now);
        } else {
            self.account_hold.adopt(hold, now);
        }
    }

    /// Ends the holds that are due, or lets a job try.
    pub(super) fn check_holds(&mut self, now: Timestamp) -> Vec<Action> {
        let has_ended = self.own_holds.end_due(now);
        match self.account_hold.check_time(now) {
            None if has_ended => self.apply_hold(),
            None => Vec::new(),
            Some(Try::Ended) => self.apply_hold(),
            Some(Try::ChooseProbe) => self.try_account(now),
        }
    }

    /// Lets a job try whether the limit has ended, unless one is doing so.
    fn try_account(&mut self, now: Timestamp) -> Vec<Action> {
        if self.is_probe_working(now) {
            self.account_hold.extend_probe(now);
            return Vec::new();
        }
        if let Some(job) = self.choose_probe() {
            self.account_hold.start_probe(job, now);
            return self.apply_hold();
        }
        if self.jobs.iter().any(|(id, job)| self.awaits_limit(id, job)) {
            self.account_hold.postpone_try(now);
            return Vec::new();
        }
        // No job waits, so the next one tries.
        self.end_account_hold(Some(now))
    }

    /// Returns true if the job that tries has begun, may go on, and its agent is connected.
    fn is_probe_working(&self, now: Timestamp) -> bool {
        let probe = self.account_hold.probe().filter(|probe| probe.has_time(now));
        let job = probe.and_then(|probe| self.jobs.get(&probe.job));
        job.is_some_and(|job| match &job.assignment {
            Assignment::Running(agent) => job.account.held.is_none() && self.agents.is_connected(agent),
            _ => false,
        })
    }

    /// Ends the hold. `ended_at` is the time of an end that the account may contradict; `None` if it ends for
    /// another reason: a person has acted, the credentials have changed or the budget is not used up any more.
    pub(super) fn end_account_hold(&mut self, ended_at: Option<Timestamp>) -> Vec<Action> {
        self.account_hold.end(ended_at);
        self.apply_hold()
    }

    /// Returns the job that tries whether the limit has ended: one that can begin, with the fewest tries, so that no job
    /// alone decides. Of those, the oldest that pauses in its thread, else the oldest queued one. A job that has not begun
    /// makes room for the others.
    fn choose_probe(&self) -> Option<JobId> {
        let last = self.account_hold.probe().map(|probe| &probe.job);
        let able = self.jobs.iter().filter(|(id, job)| self.awaits_limit(id, job) && self.can_begin(job));
        let next = able.min_by_key(|(id, job)| {
            let is_queued = job.assignment == Assignment::Queued;
            (last == Some(*id), self.account_hold.tries_of(id), is_queued, job.created_at, (*id).clone())
        });
        next.map(|(id, _)| id.clone())
    }

    /// Returns true for a job that only the limit keeps from its work, or the lack of an agent or a slot.
    fn awaits_limit(&self, id: &JobId, job: &ScheduledJob) -> bool {
        let pauses = || job.account.held.is_some() && self.own_holds.current(id).is_none();
        let is_running = matches!(job.assignment, Assignment::Running(_));
        let awaits = if is_running { pauses() } else { self.is_startable(id) };
        awaits && job.account.waits && !self.requested_cancels.contains_key(id)
    }

    /// Returns true if the agent of a running job is connected, or if there is a slot for a queued one.
    fn can_begin(&self, job: &ScheduledJob) -> bool {
        match job.assignment.agent() {
            Some(agent) => self.agents.is_connected(agent),
            None => self.queue.has_slot(job.group.as_ref()) && self.next_target().is_some(),
        }
    }

    /// Returns true for a queued job that waits for no other job.
    fn is_startable(&self, id: &JobId) -> bool {
        self.assignment(id) == Some(&Assignment::Queued)
            && !self.requested_cancels.contains_key(id)
            && !self.dependencies.is_waiting(id)
            && self.blocker(id).is_none()
    }

    /// Applies a change of the hold to all jobs.
    fn apply_hold(&mut self) -> Vec<Action> {
        let jobs: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| job.account.waits).map(|(id, _)| id.clone()).collect();
        let mut actions = Vec::new();
        for id in jobs {
            match self.assignment(&id) {
                Some(Assignment::Queued)
                    if !self.dependencies.is_waiting(&id) && !self.requested_cancels.contains_key(&id) =>
                {
                    self.recheck(&id);
                }
                Some(Assignment::Running(_)) => {
                    actions.extend(self.report_running_hold(&id));
                    self.count_box(&id);
                }
                _ => {}
            }
        }
        actions.extend(self.offer_queued());
        actions
    }

    /// Lets a job that pauses go on, or records the hold in force if it differs from the recorded one.
    fn report_running_hold(&mut self, id: &JobId) -> Option<Action> {
        let hold = self.hold_of(id).cloned();
        let job = self.jobs.get_mut(id).filter(|job| job.account.held.is_some())?;
        let agent = job.assignment.agent().cloned()?;
        match hold {
            None => Some(Action::Continue { agent, job: id.clone() }),
            Some(hold) if job.account.held.as_ref() == Some(&hold) => None,
            Some(hold) => {
                job.account.held = Some(hold.clone());
                Some(Action::Record { job: id.clone(), body: EventBody::Held { hold: Some(Box::new(hold)) } })
            }
        }
    }

    /// Returns the event about the hold of a queued job, if the hold has changed.
    pub(super) fn report_queued_hold(&mut self, id: &JobId) -> Option<Action> {
        let is_held = self.is_held(id) && !self.dependencies.is_waiting(id);
        let hold = self.account_hold.current().filter(|_| is_held).cloned();
        let is_queued = !self.requested_cancels.contains_key(id);
        let job = self.jobs.get_mut(id).filter(|job| is_queued && job.assignment == Assignment::Queued)?;
        if job.account.held == hold {
            return None;
        }
        job.account.held.clone_from(&hold);
        Some(Action::Record { job: id.clone(), body: EventBody::Held { hold: hold.map(Box::new) } })
    }

    /// Lets the jobs of an agent go on that still pause although no hold is in force: the agent was not connected when
    /// the hold ended.
    fn continue_jobs_of(&mut self, agent: &AgentId) -> Vec<Action> {
        let is_continued = |id: &JobId| self.pauses(id) && !self.is_paused(id);
        let jobs: Vec<JobId> = self.jobs_of(agent).into_iter().filter(is_continued).collect();
        jobs.into_iter().map(|job| Action::Continue { agent: agent.clone(), job }).collect()
    }

    fn pauses(&self, id: &JobId) -> bool {
        self.jobs
            .get(id)
            .is_some_and(|job| matches!(job.assignment, Assignment::Running(_)) && job.account.held.is_some())
    }
}

impl Core {
    /// Ends the hold of the queue, because a person has acted.
    pub(super) fn end_hold_on_request(&mut self, context: &mut InputContext) {
        // Until the next day, every request would be refused.
        if self.scheduler.account_hold.is_for_budget() {
            return;
        }
        if self.scheduler.account_hold.current().is_some() {
            tracing::info!("the hold of the queue is ended on request");
        }
        self.scheduler.own_holds.end_all();
        self.end_hold(context);
    }

    /// Ends the hold after refused credentials.
    pub(super) fn on_credentials_changed(&mut self, context: &mut InputContext) {
        if self.scheduler.account_hold.is_for_credentials() {
            self.end_hold(context);
        }
    }

    /// Holds the queue because the budget of the day is used up, or ends that hold, because a new day has begun.
    pub(super) fn on_day_budget(&mut self, hold: Option<Hold>, context: &mut InputContext) {
        match hold {
            Some(hold) => {
                let actions = self.scheduler.hold_for_budget(hold);
                self.execute_actions(actions, context);
                self.schedule_hold_check(context);
            }
            None if self.scheduler.account_hold.is_for_budget() => self.end_hold(context),
            None => {}
        }
    }

    fn end_hold(&mut self, context: &mut InputContext) {
        let actions = self.scheduler.end_account_hold(None);
        self.execute_actions(actions, context);
        self.schedule_hold_check(context);
    }

    /// Ends the hold of the queue, or lets a job try, if that is due.
    pub(super) fn check_hold(&mut self, context: &mut InputContext) {
        let actions = self.scheduler.check_holds(self.wall_time(context.now));
        self.execute_actions(actions, context);
        self.schedule_hold_check(context);
    }

    /// Sets the time of the next check. It is computed anew with each heartbeat, so that it follows the wall clock.
    pub(super) fn schedule_hold_check(&mut self, context: &InputContext) {
        let now = self.wall_time(context.now);
        let scheduler = &self.scheduler;
        let next = scheduler.account_hold.next_try_at().into_iter().chain(scheduler.own_holds.next_end_at());
        let remaining = next.min().map(|at| at.duration_since(now));
        let remaining = remaining.map(|remaining| remaining.max(SignedDuration::ZERO).unsigned_abs());
        self.hold_check_at = remaining.and_then(|remaining| context.now.checked_add(remaining));
    }

    /// Lets the jobs of a connected agent go on whose hold ended meanwhile.
    pub(super) fn continue_held_jobs(&mut self, agent: &AgentId, context: &mut InputContext) {
        let actions = self.scheduler.continue_jobs_of(agent);
        self.execute_actions(actions, context);
    }
}
