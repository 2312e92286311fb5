//! Reasons why a queued job does not start although the platform is ready.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;

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
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { job } => {
                write!(f, "waits for {job}, which works in the same folder; --branch runs beside it")
            }
        }
    }
}
