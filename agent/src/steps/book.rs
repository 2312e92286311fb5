//! The steps of one job: their numbers, and the limits of those that run.

use std::time::Duration;

use common::duration;
use common::event::{EventBody, FailureKind, JobError, MAX_TITLE, StepOutcome};
use common::job::{Limits, StepKind};
use common::text;

use super::silence::Silence;
use crate::clock::{Alarm, Limit};

/// Title of the step that waits for the model.
pub(crate) const MODEL_TITLE: &str = "waiting for the model";

/// A step that runs.
#[derive(Debug)]
struct Open {
    n: u32,
    kind: StepKind,
    title: String,
    limit: Limit,
    /// What is known about a model that is silent.
    silence: Silence,
}

/// The steps of a job.
#[derive(Debug)]
pub(crate) struct Steps {
    limits: Limits,
    job: Limit,
    last: u32,
    open: Vec<Open>,
}

/// What the clocks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// Half of a limit is used: a warning.
    Warning(EventBody),
    /// A limit is over: the job must end.
    Failure(JobError),
}

impl Steps {
    /// The steps of a job that begins at `now`.
    pub(crate) fn new(now: Duration, limits: Limits) -> Self {
        let job = Limit::new(now, limits.job_ms);
        Self { limits, job, last: 0, open: Vec::new() }
    }

    /// Begins a step; gives its number and its event.
    pub(crate) fn start(&mut self, now: Duration, kind: StepKind, title: &str) -> (u32, EventBody) {
        self.last = self.last.saturating_add(1);
        let limit_ms = self.limits.step_ms(kind);
        let title = text::one_line(title, MAX_TITLE);
        let limit = Limit::new(now, limit_ms);
        self.open.push(Open { n: self.last, kind, title: title.clone(), limit, silence: Silence::default() });
        (
            self.last,
            EventBody::StepStarted { n: self.last, kind, title, limit_ms: Some(limit_ms), parent: None },
        )
    }

    /// The model said something, though nothing that ends the wait for it.
    pub(crate) fn alive(&mut self, now: Duration, n: u32) {
        if let Some(step) = self.open.iter_mut().find(|step| step.n == n) {
            step.limit.restart(now);
            step.silence = Silence { heard: true, trouble: None };
        }
    }

    /// Codex told of trouble with the model that a step waits for; that is no sign of life.
    pub(crate) fn trouble(&mut self, n: u32, notice: String) {
        if let Some(step) = self.open.iter_mut().find(|step| step.n == n) {
            step.silence.trouble = Some(notice);
        }
    }

    /// Ends a step; nothing if it does not run.
    pub(crate) fn finish(
        &mut self,
        now: Duration,
        n: u32,
        outcome: StepOutcome,
        exit_code: Option<i32>,
    ) -> Option<EventBody> {
        let at = self.open.iter().position(|step| step.n == n)?;
        let step = self.open.remove(at);
        let elapsed_ms = duration::millis(step.limit.elapsed(now));
        Some(EventBody::StepFinished { n, outcome, exit_code, elapsed_ms, resources: None })
    }

    /// Ends every step that runs.
    pub(crate) fn finish_all(&mut self, now: Duration, outcome: StepOutcome) -> Vec<EventBody> {
        let open: Vec<u32> = self.open.iter().map(|step| step.n).collect();
        open.into_iter().filter_map(|n| self.finish(now, n, outcome, None)).collect()
    }

    /// When the clocks will have something to say.
    pub(crate) fn next(&self) -> Duration {
        self.open.iter().map(|step| step.limit.next()).fold(self.job.next(), Duration::min)
    }

    /// What the clocks say at `now`; a failure is the last word.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Due> {
        let mut due = Vec::new();
        for step in &mut self.open {
            match step.limit.check(now) {
                None => {}
                Some(Alarm::Half) => due.push(Due::Warning(EventBody::Warning {
                    message: format!(
                        "{} has used half of its limit of {}",
                        described(step),
                        duration::limit(step.limit.length_ms())
                    ),
                })),
                Some(Alarm::Over) => {
                    due.push(Due::Failure(failure(step)));
                    return due;
                }
            }
        }
        let limit = duration::limit(self.job.length_ms());
        match self.job.check(now) {
            None => {}
            Some(Alarm::Half) => {
                let message = format!("the job has used half of its limit of {limit}");
                due.push(Due::Warning(EventBody::Warning { message }));
            }
            Some(Alarm::Over) => {
                let doing = self.open.last().map(|step| format!("; it was at {}", described(step)));
                due.push(Due::Failure(JobError {
                    kind: FailureKind::JobTimeout,
                    message: format!("the job ran over its limit of {limit}{}", doing.unwrap_or_default()),
                    step: self.open.last().map(|step| step.n),
                }));
            }
        }
        due
    }

    /// The newest step that runs.
    pub(crate) fn current(&self) -> Option<u32> {
        self.open.last().map(|step| step.n)
    }
}

fn described(step: &Open) -> String {
    match step.kind {
        StepKind::Model => format!("step {} ({})", step.n, step.title),
        kind => format!("step {} ({kind}: {})", step.n, step.title),
    }
}

fn failure(step: &Open) -> JobError {
    let limit = duration::limit(step.limit.length_ms());
    let (kind, message) = match step.kind {
        StepKind::Start => {
            (FailureKind::StartTimeout, format!("{} showed no sign of life within {limit}", step.title))
        }
        StepKind::Model => {
            let why = step.silence.why();
            (FailureKind::ModelSilent, format!("the model was silent for {limit}: {why}"))
        }
        _ => (FailureKind::StepTimeout, format!("{} ran over its limit of {limit}", described(step))),
    };
    JobError { kind, message, step: Some(step.n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn steps(install_s: u64, job_s: u64) -> Steps {
        let mut limits = Limits { job_ms: job_s * 1000, ..Limits::default() };
        limits.steps.insert(StepKind::Install, install_s * 1000);
        Steps::new(s(0), limits)
    }

    #[test]
    fn a_step_is_numbered_timed_and_finished_once() {
        let mut steps = steps(10, 100);
        let (n, event) = steps.start(s(1), StepKind::Install, "npm ci\nsecond line");
        assert_eq!(
            event,
            EventBody::StepStarted {
                n: 1,
                kind: StepKind::Install,
                title: "npm ci".into(),
                limit_ms: Some(10_000),
                parent: None
            }
        );
        assert_eq!(
            steps.finish(s(3), n, StepOutcome::Failed, Some(1)),
            Some(EventBody::StepFinished {
                n: 1,
                outcome: StepOutcome::Failed,
                exit_code: Some(1),
                elapsed_ms: 2000,
                resources: None
            })
        );
        assert_eq!(steps.finish(s(4), n, StepOutcome::Ok, None), None);
    }

    #[test]
    fn a_limit_warns_at_half_and_then_fails_naming_the_step() {
        let mut steps = steps(10, 100);
        steps.start(s(0), StepKind::Install, "npm ci");
        assert_eq!(steps.next(), s(5));
        let Due::Warning(EventBody::Warning { message }) = steps.due(s(5)).remove(0) else { panic!() };
        assert_eq!(message, "step 1 (install: npm ci) has used half of its limit of 10s");
        assert_eq!((steps.due(s(6)), steps.next()), (vec![], s(10)));
        assert_eq!(
            steps.due(s(10)),
            [Due::Failure(JobError {
                kind: FailureKind::StepTimeout,
                message: "step 1 (install: npm ci) ran over its limit of 10s".into(),
                step: Some(1)
            })]
        );
    }

    #[test]
    fn the_job_has_a_limit_of_its_own() {
        let mut steps = steps(100, 20);
        steps.start(s(0), StepKind::Install, "npm ci");
        steps.due(s(10));
        let Due::Failure(error) = steps.due(s(20)).remove(0) else { panic!() };
        assert_eq!(error.kind, FailureKind::JobTimeout);
        assert_eq!(error.message, "the job ran over its limit of 20s; it was at step 1 (install: npm ci)");
    }

    #[test]
    fn start_and_model_limits_have_their_own_kinds() {
        let mut limits = Limits::default();
        limits.steps.insert(StepKind::Start, 1000);
        let mut steps = Steps::new(s(0), limits.clone());
        steps.start(s(0), StepKind::Start, "codex exec");
        assert!(
            matches!(&steps.due(s(1))[0], Due::Failure(error) if error.kind == FailureKind::StartTimeout)
        );
        let mut steps = Steps::new(s(0), limits);
        steps.start(s(0), StepKind::Model, MODEL_TITLE);
        assert!(
            matches!(&steps.due(s(600))[0], Due::Failure(error) if error.kind == FailureKind::ModelSilent)
        );
    }
}
