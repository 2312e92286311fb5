//! An active step: its classification, its deadline and the state of its processes.

use std::sync::Arc;
use std::time::Duration;

use common::event::{EventBody, MAX_TITLE, StepOutcome};
use common::job::{Limits, StepKind};
use common::rule::OnLimit;
use common::{duration, text_format};

use super::diagnosis::ProcessSummary;
use super::resource_usage::UsageMeter;
use super::rules::Classification;
use super::stall::StallWatch;
use super::timeout_error::TimeoutError;
use crate::deadline::{Action, Timer};

/// Location of a step's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepProcesses {
    /// No processes: the model, an edit, a search.
    None,
    /// A command of Codex that is not matched to a process of a snapshot yet.
    Unmatched { argv: Vec<String> },
    /// The tree below this process. The start time is set once a snapshot contains the process.
    Root { pid: u32, start_ticks: Option<u64> },
}

impl StepProcesses {
    /// Returns the root process and its start time, once both are known.
    pub(super) fn root(&self) -> Option<(u32, u64)> {
        match self {
            &Self::Root { pid, start_ticks: Some(start_ticks) } => Some((pid, start_ticks)),
            _ => None,
        }
    }
}

/// Classification of a process, and the number of snapshots that contained it.
#[derive(Debug)]
pub(super) struct ClassifiedProcess {
    pub(super) argv: Arc<[String]>,
    pub(super) classification: Option<Classification>,
    pub(super) snapshot_count: u32,
}

impl ClassifiedProcess {
    /// Returns true if the process downloads a program and then runs it.
    pub(super) fn fetches_program(&self) -> bool {
        self.classification.as_ref().is_some_and(|classification| classification.fetches_program)
    }
}

#[derive(Debug)]
pub(super) struct ActiveStep {
    pub(super) number: u32,
    pub(super) kind: StepKind,
    pub(super) title: String,
    pub(super) parent: Option<u32>,
    pub(super) started_at: Duration,
    pub(super) timer: Timer,
    /// True for a command that counts as an install until the downloaded program runs.
    pub(super) fetches_program: bool,
    pub(super) step_processes: StepProcesses,
    pub(super) stall_watch: StallWatch,
    /// Action on a stall. A warning is emitted only once for each stall.
    pub(super) stall_action: Action,
    pub(super) is_stall_reported: bool,
    pub(super) is_job_command: bool,
    /// Timeout that interrupted the step, while the job goes on.
    pub(super) interrupt_error: Option<TimeoutError>,
    pub(super) usage_meter: UsageMeter,
    /// Evidence about a model that sends nothing.
    pub(super) model_wait: ModelWait,
    /// The step's processes in the last snapshot, for the evidence in messages.
    pub(super) last_processes: Vec<ProcessSummary>,
}

impl ActiveStep {
    /// Creates a step that begins now.
    pub(super) fn new(
        now: Duration,
        n: u32,
        classification: &Classification,
        tree: StepProcesses,
        limits: &Limits,
        on_limit: OnLimit,
    ) -> Self {
        let action = Action::from(classification.on_limit.unwrap_or(on_limit));
        let limit_ms = classification.limit_ms.unwrap_or_else(|| limits.step_ms(classification.kind));
        let stall_limit =
            classification.stall_ms.or_else(|| limits.stalls.get(&classification.kind).copied());
        // A stalled network step hangs, while any other step may be idle intentionally.
        let stall_action =
            if stall_limit.is_some() || classification.kind.is_network() { action } else { Action::Warn };
        Self {
            number: n,
            kind: classification.kind,
            title: text_format::one_line(&classification.title, MAX_TITLE),
            parent: None,
            started_at: now,
            timer: Timer::new(now, limit_ms, action),
            fetches_program: classification.fetches_program,
            step_processes: tree,
            stall_watch: StallWatch::new(stall_limit.unwrap_or(limits.stall_ms)),
            stall_action,
            is_stall_reported: false,
            is_job_command: false,
            interrupt_error: None,
            usage_meter: UsageMeter::default(),
            model_wait: ModelWait::default(),
            last_processes: Vec::new(),
        }
    }

    pub(super) fn started_event(&self) -> EventBody {
        EventBody::StepStarted {
            n: self.number,
            kind: self.kind,
            title: self.title.clone(),
            limit_ms: Some(self.timer.limit_ms()),
            parent: self.parent,
        }
    }

    /// Returns the event that ends the step.
    pub(super) fn finished_event(
        &self,
        now: Duration,
        outcome: StepOutcome,
        exit_code: Option<i32>,
    ) -> EventBody {
        let elapsed_ms = duration::to_millis(now.saturating_sub(self.started_at));
        EventBody::StepFinished {
            n: self.number,
            outcome,
            exit_code,
            elapsed_ms,
            resources: self.usage_meter.resources(),
        }
    }

    /// Describes the step for messages.
    pub(super) fn describe(&self) -> String {
        match self.kind {
            StepKind::Model => format!("step {} ({})", self.number, self.title),
            kind => format!("step {} ({kind}: {})", self.number, self.title),
        }
    }

    /// Returns true if the step's TCP bytes must be counted: it mostly waits for the network, or has no other progress.
    pub(super) fn needs_traffic(&self) -> bool {
        self.kind.is_network() || self.stall_watch.is_idle()
    }

    /// Pauses the step's timer while a nested step has its own.
    pub(super) fn pause(&mut self, now: Duration) {
        self.timer.pause(now);
        self.stall_watch.restart();
    }
}

/// Observations since Codex last began to wait for the model.
#[derive(Debug, Default)]
pub(super) struct ModelWait {
    /// True once the model has begun to answer.
    pub(super) has_answer_started: bool,
    /// Newest error notice since the model last answered.
    pub(super) last_error: Option<String>,
}

impl ModelWait {
    /// Returns the reason for the model's silence, for the error of a job that fails because of it.
    pub(super) fn reason(&self) -> &str {
        match (&self.last_error, self.has_answer_started) {
            (Some(error), _) => error,
            (None, true) => "it began to answer and then stopped",
            // Codex's first notice takes up to a minute, so the cause is not certain.
            (None, false) => {
                "codex reports no error: the server seems to have accepted the request and never answered"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_notice_is_the_best_reason_for_the_silence() {
        let reason = |has_answer_started, last_error: Option<&str>| {
            ModelWait { has_answer_started, last_error: last_error.map(str::to_owned) }.reason().to_owned()
        };
        assert_eq!(reason(true, Some("codex retries (3/5: 503)")), "codex retries (3/5: 503)");
        assert!(reason(true, None).contains("began to answer"));
        assert!(reason(false, None).contains("accepted the request and never answered"));
    }
}
