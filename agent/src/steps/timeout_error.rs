//! The reason why a step timed out, worded for an error, a warning and an interrupt.

use common::duration;
use common::event::{FailureKind, JobError};
use common::job::StepKind;

use super::active_step::Open;
use super::diagnosis::{self, Look};
use super::stall::Quiet;

/// Description of a step that timed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    kind: FailureKind,
    /// The event, such as `made no progress for 10s`.
    what: String,
    /// Evidence from the step's processes; empty if there is none.
    pub(super) seen: String,
    /// State of the step after it was interrupted.
    after: Option<String>,
    gone: bool,
}

impl Verdict {
    /// Returns the verdict for a step whose deadline has passed.
    pub(super) fn out_of_time(step: &Open, look: Look<'_>) -> Self {
        let limit = duration::limit(step.clock.limit_ms());
        let (kind, what, seen) = match step.kind {
            StepKind::Start => {
                (FailureKind::StartTimeout, format!("showed no sign of life within {limit}"), String::new())
            }
            StepKind::Model => {
                (FailureKind::ModelSilent, format!("was silent for {limit}"), step.silence.why().to_owned())
            }
            _ => {
                let seen = diagnosis::of_timeout(&step.processes, look);
                (FailureKind::StepTimeout, format!("ran over its limit of {limit}"), seen)
            }
        };
        Self { kind, what, seen, after: None, gone: false }
    }

    /// Returns the same verdict for a step that was interrupted.
    pub(super) fn ended(&self, after: &str) -> Self {
        Self { after: Some(after.to_owned()), ..self.clone() }
    }

    /// Records that the step's processes are gone and that Codex has `limit_ms` to report the end of the command.
    pub(super) fn gone(&mut self, limit_ms: u64) {
        let limit = duration::limit(limit_ms);
        self.after = Some(format!("it was ended, and codex has not told of that within {limit}"));
        self.gone = true;
    }

    /// Returns true if the step's processes are gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Returns the verdict for a step without progress.
    pub(super) fn stalled(step: &Open, quiet: Quiet, look: Look<'_>) -> Self {
        let window = duration::limit(step.stall.window_ms());
        let seen = diagnosis::of_stall(&step.processes, quiet, look);
        Self {
            kind: FailureKind::Stalled,
            what: format!("made no progress for {window}"),
            seen,
            after: None,
            gone: false,
        }
    }

    /// Returns the error of a job that this verdict fails.
    pub(super) fn error(&self, step: &Open) -> JobError {
        let who = match step.kind {
            StepKind::Start => step.title.clone(),
            StepKind::Model => "the model".to_owned(),
            _ => step.described(),
        };
        let after = self.after.as_ref().map(|after| format!("; {after}")).unwrap_or_default();
        JobError { kind: self.kind, message: format!("{who} {}{after}", self.short()), step: Some(step.n) }
    }

    /// Returns the event and its evidence.
    pub(super) fn short(&self) -> String {
        if self.seen.is_empty() { self.what.clone() } else { format!("{}: {}", self.what, self.seen) }
    }
}
