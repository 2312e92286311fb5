//! Steps of a job, as its record contains them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Resources, StepOutcome};
use crate::job::StepKind;

/// The active step of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentStep {
    /// Number in the job, from 1.
    pub n: u32,
    /// Kind of work.
    pub kind: StepKind,
    /// Title for people, one line.
    pub title: String,
    /// Start time.
    pub started_at: Timestamp,
    /// Time limit, in milliseconds.
    pub limit_ms: Option<u64>,
}

/// A step in the record's list of steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Number in the job, from 1.
    pub n: u32,
    /// Kind of work.
    pub kind: StepKind,
    /// Title for people, one line.
    pub title: String,
    /// Start time.
    pub started_at: Timestamp,
    /// Time limit, in milliseconds.
    pub limit_ms: Option<u64>,
    /// Outcome; `null` while the step runs.
    pub outcome: Option<StepOutcome>,
    /// Exit code of the step's command, if it had one.
    pub exit_code: Option<i32>,
    /// Duration, in milliseconds; `null` while the step runs.
    pub elapsed_ms: Option<u64>,
    /// Number of the step that contains this one. Omitted if there is none, and in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// Resource usage of the step's processes. Omitted while the step runs, and if no process was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Step {
    /// Creates a step that began at `started_at`.
    pub fn new_active(
        started_at: Timestamp,
        n: u32,
        kind: StepKind,
        title: String,
        limit_ms: Option<u64>,
        parent: Option<u32>,
    ) -> Self {
        Self {
            n,
            kind,
            title,
            started_at,
            limit_ms,
            outcome: None,
            exit_code: None,
            elapsed_ms: None,
            parent,
            resources: None,
        }
    }

    /// Returns true if the job ended while the step was running. Returns false for a step inside another step, because
    /// the outcome of such a step is usually unknown.
    pub fn has_unseen_end(&self) -> bool {
        self.outcome == Some(StepOutcome::Unknown) && self.parent.is_none()
    }
}
