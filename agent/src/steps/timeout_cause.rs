//! Derivation of a [`TimeoutError`] from a step, with evidence from the step's processes.

use common::duration;
use common::event::{FailureKind, JobError};
use common::job::StepKind;

use super::active_step::ActiveStep;
use super::diagnosis::{self, Inspect};
use super::stall::IdleUsage;
use super::timeout_error::TimeoutError;

impl TimeoutError {
    /// Returns the error for a step that has exceeded its limit.
    pub(super) fn for_deadline(step: &ActiveStep, inspect: Inspect<'_>) -> Self {
        let limit = duration::format_limit(step.timer.limit_ms());
        let (kind, description, evidence) = match step.kind {
            StepKind::Start => {
                (FailureKind::StartTimeout, format!("showed no activity within {limit}"), String::new())
            }
            StepKind::Model => (
                FailureKind::ModelSilent,
                format!("was silent for {limit}"),
                step.model_wait.reason().to_owned(),
            ),
            _ => {
                let evidence = diagnosis::describe_timeout(&step.last_processes, inspect);
                (FailureKind::StepTimeout, format!("ran over its limit of {limit}"), evidence)
            }
        };
        Self { kind, description, evidence, interrupt_state: None, are_processes_gone: false }
    }

    /// Returns the error for a step without progress.
    pub(super) fn for_stall(step: &ActiveStep, idle_usage: IdleUsage, inspect: Inspect<'_>) -> Self {
        let window = duration::format_limit(step.stall_watch.window_ms());
        let evidence = diagnosis::describe_stall(&step.last_processes, idle_usage, inspect);
        Self {
            kind: FailureKind::Stalled,
            description: format!("made no progress for {window}"),
            evidence,
            interrupt_state: None,
            are_processes_gone: false,
        }
    }

    /// Returns the error of a job that fails with this timeout.
    pub(super) fn job_error(&self, step: &ActiveStep) -> JobError {
        let subject = match step.kind {
            StepKind::Start => step.title.clone(),
            StepKind::Model => "the model".to_owned(),
            _ => step.describe(),
        };
        let suffix = self.interrupt_state.as_ref().map(|state| format!("; {state}")).unwrap_or_default();
        JobError {
            kind: self.kind,
            message: format!("{subject} {}{suffix}", self.describe()),
            step: Some(step.number),
        }
    }
}
