//! Reasons why a queued job does not start although the platform is ready.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, JobName};

/// Reason why a queued job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// Another job works in the same folder, in one that contains it, or in one that it contains; or that job is queued
    /// ahead for it.
    Folder {
        /// The other job.
        job: JobId,
    },
    /// A job that this one was launched to follow has not completed yet.
    Dependency {
        /// That job.
        job: JobId,
        /// Number of further jobs that have not completed yet.
        more: usize,
    },
    /// As many jobs of the group run as its limit allows.
    Group {
        /// The group.
        name: JobName,
        /// Number of its jobs that run.
        running: u32,
        /// Maximum number of its jobs that run at once.
        limit: u32,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { job } => {
                write!(f, "waits for {job}, which works in the same folder; --branch runs beside it")
            }
            Self::Dependency { job, more: 0 } => write!(f, "waits for {job} (--after)"),
            Self::Dependency { job, more } => write!(f, "waits for {job} and {more} more (--after)"),
            Self::Group { name, running, limit } => {
                write!(f, "waits for a free slot of group {name} ({running} of {limit} run)")
            }
        }
    }
}
