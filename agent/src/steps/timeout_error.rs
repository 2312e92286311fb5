//! Reason why a step timed out, worded for an error, a warning and an interrupt.

use common::duration;
use common::event::FailureKind;

/// Reason why a step timed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeoutError {
    pub(super) kind: FailureKind,
    /// Cause of the timeout, such as `made no progress for 10s`.
    pub(super) description: String,
    /// Evidence from the step's processes; empty if there is none.
    pub(super) evidence: String,
    /// State of the step after it was interrupted, for display.
    pub(super) interrupt_state: Option<String>,
    pub(super) are_processes_gone: bool,
}

impl TimeoutError {
    /// Returns the same error for a step that was interrupted.
    pub(super) fn with_interrupt_state(&self, state: &str) -> Self {
        Self { interrupt_state: Some(state.to_owned()), ..self.clone() }
    }

    /// Records that the step's processes are gone, and that Codex has `limit_ms` ms to report the command's end.
    pub(super) fn set_processes_gone(&mut self, limit_ms: u64) {
        let limit = duration::format_limit(limit_ms);
        self.interrupt_state = Some(format!("it was ended, but codex has not reported that within {limit}"));
        self.are_processes_gone = true;
    }

    /// Returns true if the step's processes are gone.
    pub(super) fn are_processes_gone(&self) -> bool {
        self.are_processes_gone
    }

    /// Returns the cause with its evidence.
    pub(super) fn describe(&self) -> String {
        if self.evidence.is_empty() {
            self.description.clone()
        } else {
            format!("{}: {}", self.description, self.evidence)
        }
    }
}
