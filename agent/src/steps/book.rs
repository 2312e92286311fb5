//! The steps of one job: their numbers, their clocks, and what follows when time is over. Pure.
//!
//! A step whose part runs as a step of its own holds its clock: a chain counts by what is running now.

use std::collections::HashMap;
use std::time::Duration;

use common::duration;
use common::event::{EventBody, FailureKind, JobError, MAX_TEXT, StepOutcome};
use common::job::{Limits, StepKind};
use common::rule::{MAX_INTERRUPTS, OnLimit, OnLoop};
use common::text;
use common::warnings::HALF_USED;

use super::evidence::Look;
use super::open::{Known, Open, Tree};
use super::rules::{self, Rules, Work};
use super::silence::Silence;
use super::verdict::Verdict;
use crate::clock::{Action, Alarm, Clock};

/// Title of the step that waits for the model.
pub(crate) const MODEL_TITLE: &str = "waiting for the model";

/// How much longer than its grace an interrupted step may take to be gone, in milliseconds: what can't be killed at once, and
/// the look that sees it.
const KILLING: u64 = 2500;

/// The steps of a job.
#[derive(Debug)]
pub(crate) struct Steps {
    pub(super) limits: Limits,
    pub(super) on_limit: OnLimit,
    on_loop: OnLoop,
    /// The job is to end because its worker goes round in a circle.
    circle: Option<JobError>,
    pub(super) rules: Rules,
    job: Clock,
    pub(super) last: u32,
    pub(super) open: Vec<Open>,
    /// What is known of each process of the last look.
    pub(super) known: HashMap<(u32, u64), Known>,
    /// How many steps came out of processes.
    pub(super) parts: u32,
    interrupts: u32,
    /// The job is being ended: whatever does not succeed by now was ended with it.
    ending: bool,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// To be told.
    Event(EventBody),
    /// The job must end.
    Failure(JobError),
    /// Everything below this process must end; the job goes on.
    Interrupt {
        /// Its number.
        pid: u32,
        /// Its start, in clock ticks since boot.
        started: u64,
        /// From TERM to KILL, in milliseconds.
        grace_ms: u64,
    },
}

impl Steps {
    /// The steps of a job that begins at `now`.
    pub(crate) fn new(now: Duration, limits: Limits, on_limit: OnLimit, rules: Rules) -> Self {
        let job = Clock::new(now, limits.job_ms, Action::Fail);
        Self {
            limits,
            on_limit,
            on_loop: OnLoop::Warn,
            circle: None,
            rules,
            job,
            last: 0,
            open: Vec::new(),
            known: HashMap::new(),
            parts: 0,
            interrupts: 0,
            ending: false,
        }
    }

    /// The same with another answer to a worker that goes round in a circle.
    #[must_use]
    pub(crate) fn with_on_loop(self, on_loop: OnLoop) -> Self {
        Self { on_loop, ..self }
    }

    /// The job is being ended from now on.
    pub(crate) fn end(&mut self) {
        self.ending = true;
    }

    /// The rules that tell what a command is.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Begins a step without processes of its own; gives its number and its event.
    pub(crate) fn start(&mut self, now: Duration, kind: StepKind, title: &str) -> (u32, EventBody) {
        self.begin(now, &Work::plain(kind, title.to_owned()), Tree::None, None)
    }

    /// Begins the step of the process `pid`.
    pub(crate) fn start_process(&mut self, now: Duration, work: &Work, pid: u32) -> (u32, EventBody) {
        let begun = self.begin(now, work, Tree::Root { pid, started: None }, None);
        if let Some(step) = self.open.last_mut() {
            step.whole = true;
        }
        begun
    }

    /// Begins the step of a command that Codex runs; its process is found by looking.
    pub(crate) fn start_command(&mut self, now: Duration, command: &str) -> (u32, EventBody) {
        let argv = rules::words(command);
        let work = self.rules.of_words(command, &argv);
        self.begin(now, &work, Tree::Wanted { argv }, None)
    }

    /// Begins a step, perhaps as a part of another one, whose clock is held meanwhile.
    pub(super) fn begin(
        &mut self,
        now: Duration,
        work: &Work,
        tree: Tree,
        parent: Option<u32>,
    ) -> (u32, EventBody) {
        self.last = self.last.saturating_add(1);
        let mut step = Open::new(now, self.last, work, tree, &self.limits, self.on_limit);
        step.parent = parent;
        let event = step.began();
        if let Some(parent) = self.open.iter_mut().find(|step| Some(step.n) == parent) {
            parent.hold(now);
        }
        self.open.push(step);
        (self.last, event)
    }

    /// Ends a step and its parts; nothing if it does not run.
    pub(crate) fn finish(
        &mut self,
        now: Duration,
        n: u32,
        outcome: StepOutcome,
        exit_code: Option<i32>,
    ) -> Vec<EventBody> {
        if !self.open.iter().any(|step| step.n == n) {
            return Vec::new();
        }
        let outcome = if self.ending && outcome != StepOutcome::Ok { StepOutcome::Killed } else { outcome };
        let parts: Vec<u32> =
            self.open.iter().rev().filter(|step| step.parent == Some(n)).map(|step| step.n).collect();
        // How a part ended was not seen, unless the whole was ended.
        let unseen = if outcome == StepOutcome::Killed { outcome } else { StepOutcome::Unknown };
        let mut events: Vec<_> =
            parts.into_iter().flat_map(|part| self.finish(now, part, unseen, None)).collect();
        if let Some(at) = self.open.iter().position(|step| step.n == n) {
            let step = self.open.remove(at);
            let ended = if step.interrupted.is_some() && outcome == StepOutcome::Failed {
                StepOutcome::Killed
            } else {
                outcome
            };
            events.push(step.ended(now, ended, exit_code));
            let parent = step.parent.filter(|n| !self.open.iter().any(|other| other.parent == Some(*n)));
            if let Some(parent) = self.open.iter_mut().find(|step| Some(step.n) == parent) {
                parent.clock.go_on(now);
            }
        }
        events
    }

    /// Ends every step that runs.
    pub(crate) fn finish_all(&mut self, now: Duration, outcome: StepOutcome) -> Vec<EventBody> {
        let open: Vec<u32> = self.open.iter().rev().map(|step| step.n).collect();
        open.into_iter().flat_map(|n| self.finish(now, n, outcome, None)).collect()
    }

    /// The model said something, though nothing that ends the wait for it: the step's clock begins anew.
    pub(crate) fn alive(&mut self, now: Duration, n: u32) {
        if let Some(step) = self.open.iter_mut().find(|step| step.n == n) {
            step.clock.restart(now);
            step.silence = Silence { heard: true, trouble: None };
        }
    }

    /// Codex asks the model: what was known of the time before explains nothing any more.
    pub(crate) fn in_turn(&mut self, n: u32) {
        if let Some(step) = self.open.iter_mut().find(|step| step.n == n) {
            step.silence = Silence::default();
        }
    }

    /// A warning that these steps were running when the worker's turn was over.
    pub(crate) fn left_running(&self, steps: &[u32]) -> Option<EventBody> {
        let titles: Vec<&str> =
            self.open.iter().filter(|step| steps.contains(&step.n)).map(|step| step.title.as_str()).collect();
        let (first, more) = titles.split_first()?;
        let more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!("still running when the worker's turn ended, and ended with it: {first}{more}");
        Some(EventBody::Warning { message })
    }

    /// Codex told of trouble with the model that a step waits for; that is no sign of life.
    pub(crate) fn trouble(&mut self, n: u32, notice: String) {
        if let Some(step) = self.open.iter_mut().find(|step| step.n == n) {
            step.silence.trouble = Some(notice);
        }
    }

    /// Moves the limit of the step that runs, or of the job; nothing where there is none.
    pub(crate) fn extend(&mut self, step: bool, by_ms: u64) -> Option<EventBody> {
        let (n, clock) = if step {
            let newest = self.newest()?;
            let step = self.open.iter_mut().find(|step| step.n == newest)?;
            (Some(newest), &mut step.clock)
        } else {
            (None, &mut self.job)
        };
        clock.extend(by_ms);
        Some(EventBody::Extended { n, limit_ms: clock.limit_ms() })
    }

    /// The worker goes round in a circle, now at the step `n`: a warning, unless that is to end the job.
    pub(crate) fn circle(&mut self, n: Option<u32>, message: String) -> Option<EventBody> {
        match self.on_loop {
            OnLoop::Warn => Some(EventBody::Warning { message }),
            OnLoop::Fail => {
                let message = text::truncate(&message, MAX_TEXT);
                self.circle = Some(JobError { kind: FailureKind::NoProgress, message, step: n });
                None
            }
        }
    }

    /// When there will be something to do.
    pub(crate) fn next(&self) -> Duration {
        if self.circle.is_some() {
            return Duration::ZERO;
        }
        let clocks = self.open.iter().map(|step| step.clock).chain([self.job]);
        clocks.filter_map(Clock::next).fold(Duration::MAX, Duration::min)
    }

    /// What there is to do at `now`; a failure is the last word.
    pub(crate) fn due(&mut self, now: Duration, look: Look<'_>) -> Vec<Due> {
        if let Some(error) = self.circle.take() {
            return vec![Due::Failure(error)];
        }
        let mut due = Vec::new();
        for at in 0..self.open.len() {
            let step = &mut self.open[at];
            match step.clock.check(now) {
                None => {}
                Some(Alarm::Half) => {
                    let limit = duration::limit(step.clock.limit_ms());
                    due.push(warning(format!("{}{HALF_USED}{limit}", step.described())));
                }
                Some(Alarm::Over) => {
                    let action = step.clock.action();
                    let verdict = match &step.interrupted {
                        Some(interrupted) => interrupted.clone(),
                        None => Verdict::out_of_time(step, look),
                    };
                    due.extend(self.act(now, at, action, verdict));
                }
            }
            if matches!(due.last(), Some(Due::Failure(_))) {
                return due;
            }
        }
        let limit = duration::limit(self.job.limit_ms());
        match self.job.check(now) {
            None => {}
            Some(Alarm::Half) => due.push(warning(format!("the job{HALF_USED}{limit}"))),
            Some(Alarm::Over) => {
                let step = self.newest().and_then(|n| self.open.iter().find(|step| step.n == n));
                let doing = step.map(|step| format!("; it was at {}", step.described())).unwrap_or_default();
                due.push(Due::Failure(JobError {
                    kind: FailureKind::JobTimeout,
                    message: format!("the job ran over its limit of {limit}{doing}"),
                    step: step.map(|step| step.n),
                }));
            }
        }
        due
    }

    /// What a step that is out of time leads to.
    pub(super) fn act(&mut self, now: Duration, at: usize, action: Action, verdict: Verdict) -> Vec<Due> {
        let part = self.is_part(at);
        let step = &mut self.open[at];
        let n = step.n;
        // A command of the job itself is all that there is: nothing would go on without it.
        let action = if part || action == Action::Warn { action } else { Action::Fail };
        match (action, step.tree.root()) {
            (Action::Warn, _) => vec![Due::Event(EventBody::Stalled { n, evidence: verdict.seen })],
            (Action::Interrupt, Some((pid, started))) if self.interrupts < MAX_INTERRUPTS => {
                self.interrupts += 1;
                let count = self.interrupts;
                let reason = format!("{}; the worker goes on ({count} of {MAX_INTERRUPTS})", verdict.short());
                // What does not end by that in the time of a grace fails the job after all.
                let grace = self.limits.grace_ms;
                step.clock = Clock::new(now, grace.saturating_add(KILLING), Action::Fail);
                step.stall.restart();
                step.interrupted = Some(
                    verdict
                        .ended(&format!("it was ended, and is still there {} later", duration::limit(grace))),
                );
                vec![
                    Due::Event(EventBody::Interrupted { n, reason }),
                    Due::Interrupt { pid, started, grace_ms: grace },
                ]
            }
            (Action::Interrupt, Some(_)) => {
                let mut error = verdict.error(step);
                error.message.push_str("; no more steps of this job are interrupted");
                vec![Due::Failure(error)]
            }
            (Action::Fail | Action::Interrupt, _) => vec![Due::Failure(verdict.error(step))],
        }
    }

    /// Whether the job goes on without this step: it is a command of Codex, or a part with a process of its own.
    fn is_part(&self, at: usize) -> bool {
        let step = &self.open[at];
        let root = step.tree.root();
        !step.whole && !self.open.iter().any(|other| other.whole && other.tree.root() == root)
    }

    /// An interrupted step has no process any more: what is left is for Codex to tell.
    pub(super) fn gone(&mut self, now: Duration, at: usize) {
        let limit = self.limits.step_ms(StepKind::Model);
        let step = &mut self.open[at];
        if let Some(interrupted) = step.interrupted.as_mut().filter(|interrupted| !interrupted.is_gone()) {
            interrupted.gone(limit);
            step.clock = Clock::new(now, limit, Action::Fail);
        }
    }

    /// The newest step that runs.
    pub(crate) fn newest(&self) -> Option<u32> {
        self.open.iter().map(|step| step.n).max()
    }
}

fn warning(message: String) -> Due {
    Due::Event(EventBody::Warning { message })
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
