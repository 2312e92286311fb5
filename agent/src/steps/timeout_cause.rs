//! Reason of a step's timeout, with evidence from its processes.

use common::duration;
use common::event::{FailureKind, JobError};
use common::job::StepKind;

use super::active_step::ActiveStep;
use super::diagnosis::{self, Inspect};
use super::stall::IdleUsage;
use super::timeout_error::TimeoutError;

impl TimeoutError {
    pub(super) fn for_deadline(step: &ActiveStep, inspect: Inspect<'_>) -> Self {
        let limit = duration::format_limit(step.timer.limit_ms());
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
                let seen = diagnosis::describe_timeout(&step.last_processes, inspect);
                (FailureKind::StepTimeout, format!("ran over its limit of {limit}"), seen)
            }
        };
        Self { kind, description: what, evidence: seen, after_interrupt: None, processes_gone: false }
    }

    /// Returns the error for a step without progress.
    pub(super) fn for_stall(step: &ActiveStep, idle_usage: IdleUsage, inspect: Inspect<'_>) -> Self {
        let window = duration::format_limit(step.stall_watch.window_ms());
        let seen = diagnosis::describe_stall(&step.last_processes, idle_usage, inspect);
        Self {
            kind: FailureKind::Stalled,
            description: format!("made no progress for {window}"),
            evidence: seen,
            after_interrupt: None,
            processes_gone: false,
        }
    }

    /// Returns the error of a job that fails with this timeout.
    pub(super) fn job_error(&self, step: &ActiveStep) -> JobError {
        let who = match step.kind {
            StepKind::Start => step.title.clone(),
            StepKind::Model => "the model".to_owned(),
            _ => step.describe(),
        };
        let after = self.after_interrupt.as_ref().map(|after| format!("; {after}")).unwrap_or_default();
        JobError {
            kind: self.kind,
            message: format!("{who} {}{after}", self.describe()),
            step: Some(step.number),
        }
    }
}
