//! Kinds of failure of a job.

use serde::{Deserialize, Serialize};

/// Kind of failure of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureKind {
    /// A command could not be started.
    SpawnFailed,
    /// The worker showed no activity within the limit of the step `start`.
    StartTimeout,
    /// A step exceeded its limit.
    StepTimeout,
    /// A step made no progress for its stall limit.
    Stalled,
    /// The model sent nothing for longer than the limit of the step `model`.
    ModelSilent,
    /// The job exceeded its limit.
    JobTimeout,
    /// Codex reported that its turn failed.
    CodexError,
    /// Codex exited with an error and gave no reason.
    CodexExit,
    /// A setup command failed.
    SetupFailed,
    /// A check failed.
    CheckFailed,
    /// The agent died, and the job's worker with it.
    AgentLost,
    /// The platform's container exited.
    ContainerExited,
    /// The kernel killed the worker or the container for lack of memory.
    OomKilled,
    /// The agent refused the job.
    Refused,
    /// The command of a shell job failed.
    Exited,
    /// The account's usage limit for the model is reached.
    UsageLimit,
    /// The model's server accepts no more requests for now.
    RateLimited,
    /// The model's server refused the key or login.
    Auth,
    /// The task no longer fits into the model's context window.
    ContextWindow,
    /// The model's server has no capacity left or reports an error.
    Overloaded,
    /// The model requires a newer Codex.
    CodexOutdated,
    /// The worker repeated failing steps without progress.
    NoProgress,
    /// The job did not leave behind what was expected (`--expect`).
    ExpectationFailed,
    /// A job that this job had to wait for (`--after`) did not complete.
    DependencyFailed,
    /// The job's budget for the model is used up.
    BudgetExceeded,
    /// The job used more disk space in its container than it may.
    DiskLimit,
}
