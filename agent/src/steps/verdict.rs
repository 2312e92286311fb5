//! Why the time of a step is over, in the words of an error, a warning and an interrupt.

use common::duration;
use common::event::{FailureKind, JobError};
use common::job::StepKind;

use super::evidence::{self, Look};
use super::open::Open;
use super::stall::Quiet;

/// What is said of a step that is out of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    kind: FailureKind,
    /// What happened, such as `made no progress for 10s`.
    what: String,
    /// What was seen of its processes; empty where nothing was.
    pub(super) seen: String,
    /// What became of it since it was ended.
    after: Option<String>,
    gone: bool,
}

impl Verdict {
    /// Its clock ran out.
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
                let seen = evidence::of_timeout(&step.processes, look);
                (FailureKind::StepTimeout, format!("ran over its limit of {limit}"), seen)
            }
        };
        Self { kind, what, seen, after: None, gone: false }
    }

    /// The same once it was ended.
    pub(super) fn ended(&self, after: &str) -> Self {
        Self { after: Some(after.to_owned()), ..self.clone() }
    }

    /// Its processes are gone; Codex has so long to tell.
    pub(super) fn gone(&mut self, limit_ms: u64) {
        let limit = duration::limit(limit_ms);
        self.after = Some(format!("it was ended, and codex has not told of that within {limit}"));
        self.gone = true;
    }

    /// Whether its processes are gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Nothing of it moves.
    pub(super) fn stalled(step: &Open, quiet: Quiet, look: Look<'_>) -> Self {
        let window = duration::limit(step.stall.window_ms());
        let seen = evidence::of_stall(&step.processes, quiet, look);
        Self {
            kind: FailureKind::Stalled,
            what: format!("made no progress for {window}"),
            seen,
            after: None,
            gone: false,
        }
    }

    /// The error of a job that ends by it.
    pub(super) fn error(&self, step: &Open) -> JobError {
        let who = match step.kind {
            StepKind::Start => step.title.clone(),
            StepKind::Model => "the model".to_owned(),
            _ => step.described(),
        };
        let after = self.after.as_ref().map(|after| format!("; {after}")).unwrap_or_default();
        JobError { kind: self.kind, message: format!("{who} {}{after}", self.short()), step: Some(step.n) }
    }

    /// What happened and what was seen.
    pub(super) fn short(&self) -> String {
        if self.seen.is_empty() { self.what.clone() } else { format!("{}: {}", self.what, self.seen) }
    }
}
