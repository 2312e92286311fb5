//! State and exit of a container.

use std::collections::BTreeSet;

use common::ids::JobId;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// The container does not exist, or never ran.
    Absent,
    /// The container runs.
    Running,
    /// The container runs, but all its processes are frozen.
    Paused,
    Exited {
        exit_code: i32,
        /// True if the engine reports that the kernel killed the container for its memory use.
        oom_killed: bool,
        /// Memory limit of the container, in bytes; `None` if there is no limit.
        memory_limit: Option<u64>,
        /// Exit time as reported by the engine; distinguishes this exit from an earlier one.
        finished_at: String,
    },
}

/// Exit of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerExit {
    /// Exit code; `None` if the container was removed before an inspection.
    pub exit_code: Option<i32>,
    /// True if the kernel killed the container for its memory use.
    pub oom_killed: bool,
    /// Memory limit of the container, in bytes; `None` if unknown or without a limit.
    pub memory_limit: Option<u64>,
    /// Exit time as reported by the engine; distinguishes this exit from another one.
    pub finished_at: Option<String>,
    /// Jobs that were interrupted by the exit and have not ended yet.
    #[serde(default)]
    pub cut_off: BTreeSet<JobId>,
}

impl ContainerExit {
    /// Builds the exit of a container that can no longer be inspected.
    pub fn from_exit_code(exit_code: Option<i32>, oom_killed: bool) -> Self {
        Self { exit_code, oom_killed, memory_limit: None, finished_at: None, cut_off: BTreeSet::new() }
    }

    /// Builds the exit of a container from its state. A container that does not exist was removed.
    pub fn from_state(state: &ContainerState) -> Self {
        match state {
            ContainerState::Exited { exit_code, oom_killed, memory_limit, finished_at } => Self {
                exit_code: Some(*exit_code),
                oom_killed: *oom_killed,
                memory_limit: *memory_limit,
                finished_at: Some(finished_at.clone()),
                cut_off: BTreeSet::new(),
            },
            ContainerState::Absent | ContainerState::Running | ContainerState::Paused => {
                Self::from_exit_code(None, false)
            }
        }
    }
}
