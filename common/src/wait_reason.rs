//! Reasons why a queued job does not start although the platform is ready.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, JobName};

/// Reason why a queued job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// Another job works in the same folder, a parent folder or a subfolder, or was queued for such a folder before.
    Folder {
        /// The other job.
        job: JobId,
    },
    /// A job that must complete before this one starts (`--after`) has not completed yet.
    Dependency {
        /// The first such job.
        job: JobId,
        /// Number of further such jobs.
        more: usize,
    },
    /// The job's group has reached its maximum of running jobs.
    Group {
        /// Name of the group.
        name: JobName,
        /// Number of running jobs of the group.
        running: u32,
        /// Maximum number of running jobs of the group.
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
