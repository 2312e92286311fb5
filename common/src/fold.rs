//! The fold: computes the record of a job from the job's events. Pure.

use jiff::Timestamp;

use crate::event::{Event, EventBody, Resources, StepOutcome};
use crate::event_line::{EventLine, Source};
use crate::hold::Hold;
use crate::job::StepKind;
use crate::record::{Cleanup, JobRecord, Link, MAX_STEPS, State};
use crate::refused_hosts;
use crate::step::{CurrentStep, Step};
use crate::summary::summarize;
use crate::warnings::is_model_warning;

impl JobRecord {
    /// Computes the record from all lines of a job's event log, oldest first; `None` if the first event is not `queued`.
    pub fn rebuild<'a>(lines: impl IntoIterator<Item = &'a EventLine>) -> Option<Self> {
        let mut lines = lines.into_iter();
        let first = lines.next()?;
        let event = first.event.as_ref()?;
        let EventBody::Queued(queued) = &event.body else { return None };
        let mut record = Self::from_queued(first.job.clone(), event.at, queued);
        for line in lines {
            record.apply_line(line);
        }
        Some(record)
    }

    /// Applies one line of the event log.
    pub fn apply_line(&mut self, line: &EventLine) {
        if line.source == Source::Agent {
            self.epoch = line.epoch;
            self.seq = line.seq;
        }
        // Facts that only the relay has are valid only from the relay, and evidence only from the agent.
        let is_from_wrong_source = |event: &Event| match event.body {
            EventBody::Result(_)
            | EventBody::Waiting { .. }
            | EventBody::FolderShared { .. }
            | EventBody::ModelUsage(_)
            | EventBody::ModelProblem { .. }
            | EventBody::NetworkRefused(_) => line.source == Source::Agent,
            EventBody::Evidence(_) => line.source == Source::Relay,
            _ => false,
        };
        if let Some(event) = line.event.as_ref().filter(|event| !is_from_wrong_source(event)) {
            self.apply(event);
        }
    }

    /// Applies one event. After the end of a job, only a `result` event changes its record.
    pub(crate) fn apply(&mut self, event: &Event) {
        if let EventBody::Result(result) = &event.body {
            self.result = Some((**result).clone());
            if self.state.is_final() {
                self.summary = Some(summarize(self));
            }
            return;
        }
        if self.state.is_final() {
            return;
        }
        self.last_event_at = event.at;
        match &event.body {
            EventBody::Queued(_) | EventBody::FileChange { .. } | EventBody::Result(_) => {}
            EventBody::Accepted { agent, isolation, workspace_log } => {
                self.state = State::Starting;
                self.waiting = None;
                self.held = None;
                self.link = Some(Link::Connected);
                self.agent = Some(agent.clone());
                self.isolation = Some(*isolation);
                self.workspace_log = workspace_log.as_ref().map(|path| format!("{}/{path}", self.workspace));
            }
            EventBody::Started { pid, thread_id } => self.apply_started(event.at, *pid, thread_id.as_ref()),
            EventBody::StepStarted { n, kind, title, limit_ms, parent } => {
                self.started_at.get_or_insert(event.at);
                self.apply_step_started(Step::new_active(
                    event.at,
                    *n,
                    *kind,
                    title.clone(),
                    *limit_ms,
                    *parent,
                ));
            }
            EventBody::StepFinished { n, outcome, exit_code, elapsed_ms, resources } => {
                self.apply_step_finished(*n, *outcome, *exit_code, *elapsed_ms, *resources);
            }
            EventBody::Message { text } => self.message = Some(text.clone()),
            EventBody::Plan { items } => self.plan.clone_from(items),
            EventBody::Usage(usage) => self.apply_reported_usage(*usage),
            EventBody::ModelUsage(usage) => self.apply_model_usage(**usage),
            EventBody::ModelProblem { problem } => self.model_problem = problem.as_deref().cloned(),
            EventBody::NetworkRefused(refused) => {
                refused_hosts::add_refused(&mut self.network_refused, refused);
            }
            EventBody::Warning { message } => self.add_warning(message.clone()),
            EventBody::Stalled { n, evidence } => {
                self.warning = Some(format!("step {n} makes no progress: {evidence}"));
            }
            EventBody::Interrupted { n, reason } => {
                self.add_warning(format!("step {n} was interrupted: {reason}"));
            }
            EventBody::Extended { n, limit_ms } => self.apply_extended(*n, *limit_ms),
            EventBody::Vitals(vitals) => self.vitals = Some(**vitals),
            EventBody::Evidence(evidence) => self.evidence = Some((**evidence).clone()),
            EventBody::LinkLost { .. } => self.link = Some(Link::Lost),
            EventBody::LinkRestored { .. } => self.link = Some(Link::Connected),
            EventBody::Waiting { reason } => {
                let reason = reason.as_ref().filter(|_| self.state == State::Queued);
                self.waiting = reason.map(ToString::to_string);
            }
            EventBody::FolderShared { jobs } => self.shared_with.clone_from(jobs),
            EventBody::Held { hold } => self.apply_held(hold.as_deref()),
            EventBody::Stopping { .. } => {
                self.state = State::Stopping;
                self.held = None;
            }
            EventBody::Cleanup { killed, survivors } => {
                let before = self.cleanup.map_or(0, |cleanup| cleanup.killed);
                self.cleanup =
                    Some(Cleanup { killed: before.saturating_add(*killed), survivors: *survivors });
            }
            EventBody::Finished { state, error, exit_code, changes } => {
                self.state = (*state).into();
                self.error = self.explain_by_model_problem(error.as_ref());
                self.exit_code = *exit_code;
                self.changes = *changes;
                self.apply_end(event.at);
            }
        }
    }

    fn apply_started(&mut self, at: Timestamp, pid: u32, thread_id: Option<&String>) {
        if self.state == State::Starting {
            self.state = State::Running;
        }
        self.started_at.get_or_insert(at);
        self.pid = Some(pid);
        if let Some(thread_id) = thread_id {
            self.thread_id = Some(thread_id.clone());
        }
    }

    fn apply_step_started(&mut self, step: Step) {
        self.steps_total = self.steps_total.max(step.n);
        self.steps.push(step);
        if self.steps.len() > MAX_STEPS {
            // The oldest ended step is removed first, because an active step is more important.
            let oldest = self.steps.iter().position(|step| step.outcome.is_some()).unwrap_or(0);
            self.steps.remove(oldest);
        }
        self.update_current_step();
    }

    fn apply_step_finished(
        &mut self,
        n: u32,
        outcome: StepOutcome,
        exit_code: Option<i32>,
        elapsed_ms: u64,
        resources: Option<Resources>,
    ) {
        if let Some(at) = self.steps.iter().position(|step| step.n == n) {
            if self.steps[at].kind == StepKind::Model {
                if outcome == StepOutcome::Ok && self.warning.as_deref().is_some_and(is_model_warning) {
                    self.warning = self.warnings.newest.last().cloned();
                }
                self.model_wait_ms = self.model_wait_ms.saturating_add(elapsed_ms);
                self.steps.remove(at);
            } else {
                let step = &mut self.steps[at];
                step.outcome = Some(outcome);
                step.exit_code = exit_code;
                step.elapsed_ms = Some(elapsed_ms);
                step.resources = resources;
            }
        }
        self.update_current_step();
    }

    /// Applies a change of the job's hold. A job that is being ended is no longer held.
    fn apply_held(&mut self, hold: Option<&Hold>) {
        self.held = hold.filter(|_| self.state != State::Stopping).cloned();
        if self.held.is_some() {
            self.pid = None;
        }
    }

    fn add_warning(&mut self, message: String) {
        self.warnings.add(&message);
        self.warning = Some(message);
    }

    /// Applies a new limit of step `n`. A new limit of the whole job (`None`) changes nothing: no record contains it.
    fn apply_extended(&mut self, n: Option<u32>, limit_ms: u64) {
        if let Some(step) = self.steps.iter_mut().find(|step| Some(step.n) == n) {
            step.limit_ms = Some(limit_ms);
        }
        self.update_current_step();
    }

    fn update_current_step(&mut self) {
        self.step = self.steps.iter().rev().find(|step| step.outcome.is_none()).map(|step| CurrentStep {
            n: step.n,
            kind: step.kind,
            title: step.title.clone(),
            started_at: step.started_at,
            limit_ms: step.limit_ms,
        });
    }

    fn apply_end(&mut self, at: Timestamp) {
        self.finished_at = Some(at);
        self.waiting = None;
        self.held = None;
        self.pid = None;
        self.step = None;
        self.steps.retain(|step| step.outcome.is_some() || step.kind != StepKind::Model);
        for step in self.steps.iter_mut().filter(|step| step.outcome.is_none()) {
            step.outcome = Some(StepOutcome::Unknown);
        }
        if self.state == State::Completed {
            // After success, warnings about slow or stalled steps are dropped.
            self.warning = self.warnings.newest.last().cloned();
        }
        self.summary = Some(summarize(self));
    }
}
