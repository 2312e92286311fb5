//! From a step that timed out to the reason, with evidence from its processes.

use common::duration;
use common::event::{FailureKind, JobError};
use common::job::StepKind;

use super::active_step::ActiveStep;
use super::diagnosis::{self, Inspect};
use super::stall::IdleUsage;
use super::timeout_error::TimeoutError;

impl TimeoutError {
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
}
