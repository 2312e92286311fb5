//! Steps of one job: their numbers, their deadlines, and the actions when a deadline passes. Pure.
//!
//! A step is paused while a nested step runs.

use std::collections::HashMap;
use std::time::Duration;

use common::duration;
use common::event::{EventBody, FailureKind, JobError, MAX_TEXT, StepOutcome};
use common::job::{Limits, StepKind};
use common::rule::{MAX_INTERRUPTS, OnLimit, OnLoop};
use common::text_format;
use common::warnings::HALF_USED;

use super::active_step::{ActiveStep, ClassifiedProcess, ModelWait, StepProcesses};
use super::diagnosis::Inspect;
use super::rules::{self, Classification, Rules};
use super::timeout_error::TimeoutError;
use crate::deadline::{Action, Timer, TimerEvent};

pub(crate) const MODEL_TITLE: &str = "waiting for the model";

/// Time after the grace period until the processes of an interrupted step must be gone, in milliseconds: enough to kill
/// processes that ignore TERM and to take the next snapshot.
const KILL_MARGIN_MS: u64 = 2500;

/// Steps of a job.
#[derive(Debug)]
pub(crate) struct Steps {
    pub(super) limits: Limits,
    pub(super) on_limit: OnLimit,
    on_loop: OnLoop,
    /// Error with which the job must fail because its worker repeats failing commands.
    loop_error: Option<JobError>,
    pub(super) rules: Rules,
    job_timer: Timer,
    pub(super) last_number: u32,
    pub(super) active: Vec<ActiveStep>,
    /// Classification of each process of the last snapshot.
    pub(super) classified_processes: HashMap<(u32, u64), ClassifiedProcess>,
    /// Number of steps opened for processes.
    pub(super) process_step_count: u32,
    interrupt_count: u32,
    /// True once the job is being ended. The unfinished steps then end with the job.
    is_job_ending: bool,
}

/// Action that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DueAction {
    Event(EventBody),
    Failure(JobError),
    /// Ends everything below this process; the job goes on.
    Interrupt {
        /// Process id.
        pid: u32,
        /// Start time of the process, in clock ticks since boot.
        start_ticks: u64,
        /// Time from TERM to KILL, in milliseconds.
        grace_ms: u64,
    },
}

impl Steps {
    /// Creates the steps of a job that begins at `now`.
    pub(crate) fn new(now: Duration, limits: Limits, on_limit: OnLimit, rules: Rules) -> Self {
        let job_timer = Timer::new(now, limits.job_ms, Action::Fail);
        Self {
            limits,
            on_limit,
            on_loop: OnLoop::Warn,
            loop_error: None,
            rules,
            job_timer,
            last_number: 0,
            active: Vec::new(),
            classified_processes: HashMap::new(),
            process_step_count: 0,
            interrupt_count: 0,
            is_job_ending: false,
        }
    }

    /// Sets the reaction to a worker that repeats failing commands.
    #[must_use]
    pub(crate) fn with_on_loop(self, on_loop: OnLoop) -> Self {
        Self { on_loop, ..self }
    }

    /// Marks the job as being ended.
    pub(crate) fn mark_ending(&mut self) {
        self.is_job_ending = true;
    }

    /// Returns the rules that classify commands.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Begins a step without processes of its own; returns its number and its event.
    pub(crate) fn start_step(&mut self, now: Duration, kind: StepKind, title: &str) -> (u32, EventBody) {
        self.begin_step(now, &Classification::without_rule(kind, title.to_owned()), StepProcesses::None, None)
    }

    /// Begins the step of the process `pid`.
    pub(crate) fn start_process_step(
        &mut self,
        now: Duration,
        classification: &Classification,
        pid: u32,
    ) -> (u32, EventBody) {
        let result =
            self.begin_step(now, classification, StepProcesses::Root { pid, start_ticks: None }, None);
        if let Some(step) = self.active.last_mut() {
            step.is_job_command = true;
        }
        result
    }

    /// Begins the step of a command that Codex runs; a snapshot of the process tree finds its process.
    pub(crate) fn start_command_step(&mut self, now: Duration, command: &str) -> (u32, EventBody) {
        let argv = rules::line_words(command);
        let classification = self.rules.classify_words(command, &argv);
        self.begin_step(now, &classification, StepProcesses::Unmatched { argv }, None)
    }

    /// Begins a step, optionally inside the step `parent`, whose timer is paused until the new step ends.
    pub(super) fn begin_step(
        &mut self,
        now: Duration,
        classification: &Classification,
        step_processes: StepProcesses,
        parent: Option<u32>,
    ) -> (u32, EventBody) {
        self.last_number = self.last_number.saturating_add(1);
        let mut step = ActiveStep::new(
            now,
            self.last_number,
            classification,
            step_processes,
            &self.limits,
            self.on_limit,
        );
        step.parent = parent;
        let event = step.started_event();
        if let Some(parent) = self.active.iter_mut().find(|step| Some(step.number) == parent) {
            parent.pause(now);
        }
        self.active.push(step);
        (self.last_number, event)
    }

    /// Ends a step and the steps in it; does nothing if the step is not active.
    pub(crate) fn finish_step(
        &mut self,
        now: Duration,
        step_number: u32,
        outcome: StepOutcome,
        exit_code: Option<i32>,
    ) -> Vec<EventBody> {
        if !self.active.iter().any(|step| step.number == step_number) {
            return Vec::new();
        }
        let outcome =
            if self.is_job_ending && outcome != StepOutcome::Ok { StepOutcome::Killed } else { outcome };
        let nested: Vec<u32> = self
            .active
            .iter()
            .rev()
            .filter(|step| step.parent == Some(step_number))
            .map(|step| step.number)
            .collect();
        // The outcome of a nested step is unknown, unless the step around it was killed.
        let nested_outcome = if outcome == StepOutcome::Killed { outcome } else { StepOutcome::Unknown };
        let mut events: Vec<_> =
            nested.into_iter().flat_map(|step| self.finish_step(now, step, nested_outcome, None)).collect();
        if let Some(index) = self.active.iter().position(|step| step.number == step_number) {
            let step = self.active.remove(index);
            let step_outcome = if step.interrupt_error.is_some() && outcome == StepOutcome::Failed {
                StepOutcome::Killed
            } else {
                outcome
            };
            events.push(step.finished_event(now, step_outcome, exit_code));
            let parent = step.parent.filter(|n| !self.active.iter().any(|other| other.parent == Some(*n)));
            if let Some(parent) = self.active.iter_mut().find(|step| Some(step.number) == parent) {
                parent.timer.resume(now);
            }
        }
        events
    }

    /// Ends every active step.
    pub(crate) fn finish_all(&mut self, now: Duration, outcome: StepOutcome) -> Vec<EventBody> {
        let active: Vec<u32> = self.active.iter().rev().map(|step| step.number).collect();
        active.into_iter().flat_map(|n| self.finish_step(now, n, outcome, None)).collect()
    }

    /// Restarts the timer of a step, because the model sent something that does not end the wait for it.
    pub(crate) fn restart_timer(&mut self, now: Duration, step_number: u32) {
        if let Some(step) = self.active.iter_mut().find(|step| step.number == step_number) {
            step.timer.restart(now);
            step.model_wait = ModelWait { has_answer_started: true, last_error: None };
        }
    }

    /// Resets the observations of a step's wait for the model, because Codex has sent a new request.
    pub(crate) fn reset_model_wait(&mut self, step_number: u32) {
        if let Some(step) = self.active.iter_mut().find(|step| step.number == step_number) {
            step.model_wait = ModelWait::default();
        }
    }

    /// Returns a warning that these steps were still running when the worker's turn ended.
    pub(crate) fn unfinished_warning(&self, steps: &[u32]) -> Option<EventBody> {
        let titles: Vec<&str> = self
            .active
            .iter()
            .filter(|step| steps.contains(&step.number))
            .map(|step| step.title.as_str())
            .collect();
        let (first, others) = titles.split_first()?;
        let more = match others.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        let message = format!("still running when the worker's turn ended, and ended with it: {first}{more}");
        Some(EventBody::Warning { message })
    }

    /// Records Codex's notice that the model, which the step waits for, reported an error. A notice does not restart
    /// the timer.
    pub(crate) fn set_model_error(&mut self, step_number: u32, notice: String) {
        if let Some(step) = self.active.iter_mut().find(|step| step.number == step_number) {
            step.model_wait.last_error = Some(notice);
        }
    }

    /// Extends the limit of the newest active step, or of the job; returns `None` if there is no active step.
    pub(crate) fn extend(&mut self, is_step_limit: bool, by_ms: u64) -> Option<EventBody> {
        let (n, timer) = if is_step_limit {
            let newest = self.newest_active_step()?;
            let step = self.active.iter_mut().find(|step| step.number == newest)?;
            (Some(newest), &mut step.timer)
        } else {
            (None, &mut self.job_timer)
        };
        timer.extend(by_ms);
        Some(EventBody::Extended { n, limit_ms: timer.limit_ms() })
    }

    /// Reports that the worker repeats failing commands. Returns a warning, unless the job must fail.
    pub(crate) fn report_loop(&mut self, step_number: Option<u32>, message: String) -> Option<EventBody> {
        match self.on_loop {
            OnLoop::Warn => Some(EventBody::Warning { message }),
            OnLoop::Fail => {
                let message = text_format::truncate(&message, MAX_TEXT);
                self.loop_error =
                    Some(JobError { kind: FailureKind::NoProgress, message, step: step_number });
                None
            }
        }
    }

    /// Returns the time of the next action.
    pub(crate) fn next_deadline(&self) -> Duration {
        if self.loop_error.is_some() {
            return Duration::ZERO;
        }
        let timers = self.active.iter().map(|step| step.timer).chain([self.job_timer]);
        timers.filter_map(Timer::next_event).fold(Duration::MAX, Duration::min)
    }

    /// Returns the actions due at `now`; a failure is always the last one.
    pub(crate) fn due_actions(&mut self, now: Duration, inspect: Inspect<'_>) -> Vec<DueAction> {
        if let Some(error) = self.loop_error.take() {
            return vec![DueAction::Failure(error)];
        }
        let mut actions = Vec::new();
        for index in 0..self.active.len() {
            let step = &mut self.active[index];
            match step.timer.check(now) {
                None => {}
                Some(TimerEvent::HalfUsed) => {
                    let limit = duration::format_limit(step.timer.limit_ms());
                    actions.push(warning_event(format!("{}{HALF_USED}{limit}", step.describe())));
                }
                Some(TimerEvent::Expired) => {
                    let action = step.timer.action();
                    let timeout = match &step.interrupt_error {
                        Some(interrupt_error) => interrupt_error.clone(),
                        None => TimeoutError::for_deadline(step, inspect),
                    };
                    actions.extend(self.on_timeout(now, index, action, timeout));
                }
            }
            if matches!(actions.last(), Some(DueAction::Failure(_))) {
                return actions;
            }
        }
        let limit = duration::format_limit(self.job_timer.limit_ms());
        match self.job_timer.check(now) {
            None => {}
            Some(TimerEvent::HalfUsed) => actions.push(warning_event(format!("the job{HALF_USED}{limit}"))),
            Some(TimerEvent::Expired) => {
                let step =
                    self.newest_active_step().and_then(|n| self.active.iter().find(|step| step.number == n));
                let doing = step.map(|step| format!("; it was at {}", step.describe())).unwrap_or_default();
                actions.push(DueAction::Failure(JobError {
                    kind: FailureKind::JobTimeout,
                    message: format!("the job ran over its limit of {limit}{doing}"),
                    step: step.map(|step| step.number),
                }));
            }
        }
        actions
    }

    /// Returns the actions that follow when a step times out.
    pub(super) fn on_timeout(
        &mut self,
        now: Duration,
        index: usize,
        action: Action,
        timeout: TimeoutError,
    ) -> Vec<DueAction> {
        let is_interruptible = self.is_interruptible(index);
        let step = &mut self.active[index];
        let n = step.number;
        // The job can't go on without a command of its own, so such a step fails the job.
        let action = if is_interruptible || action == Action::Warn { action } else { Action::Fail };
        match (action, step.step_processes.root()) {
            (Action::Warn, _) => vec![DueAction::Event(EventBody::Stalled { n, evidence: timeout.evidence })],
            (Action::Interrupt, Some((pid, start_ticks))) if self.interrupt_count < MAX_INTERRUPTS => {
                self.interrupt_count += 1;
                let count = self.interrupt_count;
                let reason =
                    format!("{}; the worker goes on ({count} of {MAX_INTERRUPTS})", timeout.describe());
                // A step that has not ended within the grace period fails the job.
                let grace = self.limits.grace_ms;
                step.timer = Timer::new(now, grace.saturating_add(KILL_MARGIN_MS), Action::Fail);
                step.stall_watch.restart();
                step.interrupt_error = Some(timeout.with_interrupt_state(&format!(
                    "relay tried to end it, but it is still running more than {} later",
                    duration::format_limit(grace)
                )));
                vec![
                    DueAction::Event(EventBody::Interrupted { n, reason }),
                    DueAction::Interrupt { pid, start_ticks, grace_ms: grace },
                ]
            }
            (Action::Interrupt, Some(_)) => {
                let mut error = timeout.job_error(step);
                error.message.push_str("; no more steps of this job are interrupted");
                vec![DueAction::Failure(error)]
            }
            (Action::Fail | Action::Interrupt, _) => vec![DueAction::Failure(timeout.job_error(step))],
        }
    }

    /// Returns true if the job can go on without this step: a command of Codex, or a nested step with its own process.
    fn is_interruptible(&self, index: usize) -> bool {
        let step = &self.active[index];
        let root = step.step_processes.root();
        !step.is_job_command
            && !self.active.iter().any(|other| other.is_job_command && other.step_processes.root() == root)
    }

    /// Records that an interrupted step has no processes left. Codex now has limited time to report the step's end.
    pub(super) fn on_processes_gone(&mut self, now: Duration, index: usize) {
        let limit = self.limits.step_ms(StepKind::Model);
        let step = &mut self.active[index];
        if let Some(interrupt_error) =
            step.interrupt_error.as_mut().filter(|error| !error.are_processes_gone())
        {
            interrupt_error.set_processes_gone(limit);
            step.timer = Timer::new(now, limit, Action::Fail);
        }
    }

    /// Returns the number of the newest active step.
    pub(crate) fn newest_active_step(&self) -> Option<u32> {
        self.active.iter().map(|step| step.number).max()
    }
}

fn warning_event(message: String) -> DueAction {
    DueAction::Event(EventBody::Warning { message })
}

#[cfg(test)]
#[path = "step_table_tests.rs"]
mod tests;
