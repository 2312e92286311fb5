//! A job's steps, as its record shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Resources, StepOutcome};
use crate::job::StepKind;

/// A step that is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentStep {
    /// Number in the job, from 1.
    pub n: u32,
    /// What kind of work it is.
    pub kind: StepKind,
    /// A line for people.
    pub title: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Its time limit in milliseconds.
    pub limit_ms: Option<u64>,
}

/// A step in the list of steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Number in the job, from 1.
    pub n: u32,
    /// What kind of work it is.
    pub kind: StepKind,
    /// A line for people.
    pub title: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Its time limit in milliseconds.
    pub limit_ms: Option<u64>,
    /// How it ended; `null` while it runs.
    pub outcome: Option<StepOutcome>,
    /// Exit code of its command, where it had one.
    pub exit_code: Option<i32>,
    /// How long it took, in milliseconds; `null` while it runs.
    pub elapsed_ms: Option<u64>,
    /// The step it is part of. Left out where there is none, as in records of before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// What its processes used. Left out while it runs, and where none were seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Step {
    /// A step that began at `started_at`.
    pub fn begun(
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

    /// Whether it ended and nothing told how. Of a step inside another one that is the usual case, and no news: its
    /// process was there and is gone.
    pub fn is_unseen(&self) -> bool {
        self.outcome == Some(StepOutcome::Unknown) && self.parent.is_none()
    }
}
