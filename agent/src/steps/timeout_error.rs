//! The reason why a step timed out, worded for an error, a warning and an interrupt.

use common::duration;
use common::event::{FailureKind, JobError};
use common::job::StepKind;

use super::active_step::ActiveStep;
use super::diagnosis::{self, Inspect};
use super::stall::IdleUsage;

/// Description of a step that timed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeoutError {
    kind: FailureKind,
    /// The event, such as `made no progress for 10s`.
    what: String,
    /// Evidence from the step's processes; empty if there is none.
    pub(super) evidence: String,
    /// State of the step after it was interrupted.
    after: Option<String>,
    gone: bool,
}

impl TimeoutError {
    /// Returns the error for a step whose deadline has passed.
    pub(super) fn deadline_passed(step: &ActiveStep, inspect: Inspect<'_>) -> Self {
        let limit = duration::limit(step.timer.limit_ms());
        let (kind, what, seen) = match step.kind {
            StepKind::Start => {
                (FailureKind::StartTimeout, format!("showed no activity within {limit}"), String::new())
            }
            StepKind::Model => (
                FailureKind::ModelSilent,
                format!("was silent for {limit}"),
                step.model_wait.reason().to_owned(),
            ),
            _ => {
                let seen = diagnosis::describe_timeout(&step.processes, inspect);
                (FailureKind::StepTimeout, format!("ran over its limit of {limit}"), seen)
            }
        };
        Self { kind, what, evidence: seen, after: None, gone: false }
    }

    /// Returns the same error for a step that was interrupted.
    pub(super) fn after_interrupt(&self, after: &str) -> Self {
        Self { after: Some(after.to_owned()), ..self.clone() }
    }

    /// Records that the step's processes are gone and that Codex has `limit_ms` to report the end of the command.
    pub(super) fn set_gone(&mut self, limit_ms: u64) {
        let limit = duration::limit(limit_ms);
        self.after = Some(format!("it was ended, but codex has not reported that within {limit}"));
        self.gone = true;
    }

    /// Returns true if the step's processes are gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Returns the error for a step without progress.
    pub(super) fn stalled(step: &ActiveStep, quiet: IdleUsage, inspect: Inspect<'_>) -> Self {
        let window = duration::limit(step.stall.window_ms());
        let seen = diagnosis::describe_stall(&step.processes, quiet, inspect);
        Self {
            kind: FailureKind::Stalled,
            what: format!("made no progress for {window}"),
            evidence: seen,
            after: None,
            gone: false,
        }
    }

    /// Returns the error of a job that this error fails.
    pub(super) fn error(&self, step: &ActiveStep) -> JobError {
        let who = match step.kind {
            StepKind::Start => step.title.clone(),
            StepKind::Model => "the model".to_owned(),
            _ => step.describe(),
        };
        let after = self.after.as_ref().map(|after| format!("; {after}")).unwrap_or_default();
        JobError { kind: self.kind, message: format!("{who} {}{after}", self.describe()), step: Some(step.n) }
    }

    /// Returns the event and its evidence.
    pub(super) fn describe(&self) -> String {
        if self.evidence.is_empty() { self.what.clone() } else { format!("{}: {}", self.what, self.evidence) }
    }
}
