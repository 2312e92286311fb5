//! Events of a job.
//!
//! The wire and the agent's spool encode [`EventBody`] in a binary format without field names. So it is a plain enum,
//! without serde's tag, flatten, untagged or skip attributes. New variants go to the end.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
pub use crate::failure_kind::FailureKind;
use crate::folder::{FolderUse, MAX_SHARED_WITH};
use crate::hold::{Hold, OnQuota};
use crate::ids::{JobId, JobName};
use crate::job::{Runner, StepKind};
use crate::model_usage::{ModelProblem, ModelUsage};
use crate::origin::Origin;
use crate::refused_hosts::RefusedHost;
use crate::result::JobResult;
pub use crate::usage::Usage;
use crate::vitals::MachineVitals;
use crate::wait_reason::WaitReason;

/// Maximum length of a text inside an event, in bytes. Longer messages of the worker and error messages are truncated.
pub const MAX_TEXT: usize = 2048;
/// Maximum length of a step's title, in bytes: it fits into one line of a wide terminal.
pub const MAX_TITLE: usize = 120;
/// Maximum number of files in a `file_change` event, and of items in a `plan` event.
pub const MAX_LIST: usize = 100;
/// Maximum number of jobs that must complete before a job starts (`--after`).
pub const MAX_AFTER: usize = 100;

/// An event of a job, with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Time of the event in UTC, to the millisecond, on the relay's time scale, which follows a monotonic clock. Events
    /// are ordered by `seq`, not by this time.
    pub at: Timestamp,
    /// Content of the event.
    pub body: EventBody,
}

/// Content of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// The job was written to the registry. Always the first event of a log.
    Queued(Box<Queued>),
    /// An agent has accepted the job and stored its spec on disk.
    Accepted {
        /// Id of the agent.
        agent: String,
        /// Isolation of the worker from the machine.
        isolation: Isolation,
        /// Path of the copy of the job's log in the workspace, relative to the workspace.
        workspace_log: Option<String>,
    },
    /// A command of the job is running: a setup command, the worker or a check.
    Started {
        /// Process id in the agent's process namespace.
        pid: u32,
        /// Id of the Codex thread, if the command is Codex.
        thread_id: Option<String>,
    },
    /// A step began.
    StepStarted {
        /// Number of the step in its job, from 1.
        n: u32,
        /// Kind of work.
        kind: StepKind,
        /// Title for people, one line.
        title: String,
        /// Time limit, in milliseconds.
        limit_ms: Option<u64>,
        /// Number of the step that contains this one, if there is one.
        #[serde(default)]
        parent: Option<u32>,
    },
    /// A step ended.
    StepFinished {
        /// Number of the step.
        n: u32,
        /// Outcome of the step.
        outcome: StepOutcome,
        /// Exit code of the step's command, if it had one.
        exit_code: Option<i32>,
        /// Duration, in milliseconds of a monotonic clock.
        elapsed_ms: u64,
        /// Resource usage of the step's processes, if any were seen.
        #[serde(default)]
        resources: Option<Resources>,
    },
    /// The worker sent a message.
    Message {
        /// Text of the message (≤ [`MAX_TEXT`]).
        text: String,
    },
    /// The worker's plan changed. Contains the whole plan.
    Plan {
        /// Items of the plan, in order.
        #[serde(deserialize_with = "crate::bounded::deserialize_list::<_, _, MAX_LIST>")]
        items: Vec<PlanItem>,
    },
    /// The worker changed files directly, not through a command.
    FileChange {
        /// The changed files, at most [`MAX_LIST`].
        #[serde(deserialize_with = "crate::bounded::deserialize_list::<_, _, MAX_LIST>")]
        files: Vec<ChangedFile>,
    },
    /// Tokens used so far by the whole thread.
    Usage(Usage),
    /// A warning for users; the job goes on.
    Warning {
        /// Text of the warning, one line.
        message: String,
    },
    /// A step makes no progress.
    Stalled {
        /// Number of the step.
        n: u32,
        /// Evidence of the stall: the process, its CPU time, its bytes, and what it waits for, one line.
        evidence: String,
    },
    /// The relay lost the connection to the agent. The job goes on.
    LinkLost {
        /// Reason for the loss, as far as the relay knows it.
        reason: String,
    },
    /// The agent has reconnected.
    LinkRestored {
        /// Id of the agent.
        agent: String,
    },
    /// The job is being ended before it is done.
    Stopping {
        /// Reason, one line.
        reason: String,
    },
    /// Processes still ran after the job or its command had ended.
    Cleanup {
        /// Number of processes that did not end by themselves and were sent TERM or KILL.
        killed: u32,
        /// Number of processes that could not be killed.
        survivors: u32,
    },
    /// The job has ended. Only a `result` event may follow.
    Finished {
        /// End state of the job.
        state: FinalState,
        /// Reason for the failure; `None` for a job that did not fail.
        error: Option<JobError>,
        /// Exit code of the worker.
        exit_code: Option<i32>,
        /// Changes in the workspace since the job began, if it is a git repository.
        changes: Option<Changes>,
    },
    /// The limit of an active step or of the job was extended.
    Extended {
        /// Number of the step; `None` if the job's own limit was extended.
        n: Option<u32>,
        /// New limit, in milliseconds.
        limit_ms: u64,
    },
    /// A step was ended so that the worker can go on without it.
    Interrupted {
        /// Number of the step.
        n: u32,
        /// Reason, one line.
        reason: String,
    },
    /// The latest vitals of the agent's machine. Sent before an event that they may explain: a step stalled, or the
    /// kernel killed the worker for lack of memory.
    Vitals(Box<MachineVitals>),
    /// The result of a job with a clone of its own has arrived, or the state of that result has changed. Recorded by
    /// the relay, never by the agent, after the end of the job.
    Result(Box<JobResult>),
    /// The agent's report about a job with a clone of its own: Codex's version, the requested model, and the checks
    /// that ran. Precedes `finished`.
    Evidence(Box<Evidence>),
    /// The reason why a queued job waits has changed. Recorded by the relay, never by the agent.
    Waiting {
        /// The new reason; `None` if the job only needs a free slot.
        reason: Option<WaitReason>,
    },
    /// The list of the other jobs that work, or have worked, in the job's folder during the job has changed. Recorded
    /// by the relay, never by the agent.
    FolderShared {
        /// All these jobs, in the order in which they became known, at most [`MAX_SHARED_WITH`].
        #[serde(deserialize_with = "crate::bounded::deserialize_list::<_, _, MAX_SHARED_WITH>")]
        jobs: Vec<JobId>,
    },
    /// Tokens of the job so far, counted by the relay in the model's answers. Recorded by the relay, never by the
    /// agent. From the first one on, `usage` events don't change the record.
    ModelUsage(Box<ModelUsage>),
    /// The problem of the account with the model has changed. Recorded by the relay, never by the agent.
    ModelProblem {
        /// The new problem; `None` once the model answers again.
        problem: Option<Box<ModelProblem>>,
    },
    /// The job is held, because the account can't use the model, or the hold has changed or ended. Recorded by the
    /// relay, and by the agent for a job whose Codex has reached a limit.
    Held {
        /// The new hold; `None` if the job goes on.
        hold: Option<Box<Hold>>,
    },
    /// The relay has refused to connect the job with a host that `[network] allow` does not permit. Recorded by the
    /// relay, never by the agent, for the first refusal of each host and for each tenfold.
    NetworkRefused(RefusedHost),
}

/// Properties of a job that are known at its launch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Working folder on the host.
    pub workspace: String,
    /// First line of the prompt.
    pub prompt_summary: String,
    /// Program that executes the prompt.
    pub runner: Runner,
    /// Engine of the platform: `local`, `docker` or `podman`.
    pub engine: String,
    /// Path of the job's log (the output of its commands) on the host.
    pub log_path: String,
    /// Path of the event log on the host.
    pub events_path: String,
    /// Session that launched the job, and the job that it follows.
    #[serde(default)]
    pub origin: Origin,
    /// Requested model; `None` for Codex's own default.
    #[serde(default)]
    pub model: Option<String>,
    /// Use of the working folder: alone, shared with other jobs, or not at all, because the job has a clone of its own.
    #[serde(default)]
    pub folder_use: FolderUse,
    /// Jobs that must complete before this one starts, at most [`MAX_AFTER`].
    #[serde(default, deserialize_with = "crate::bounded::deserialize_list::<_, _, MAX_AFTER>")]
    pub after: Vec<JobId>,
    /// Job whose result this job starts from, if that result was not known at the launch.
    #[serde(default)]
    pub base_job: Option<JobId>,
    /// Group of the job. A limited number of jobs of a group runs at once.
    #[serde(default)]
    pub group: Option<JobName>,
    /// Reaction to a usage limit of the account.
    #[serde(default)]
    pub on_quota: OnQuota,
}

/// Isolation of a worker from the machine that it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A container, with a separate user inside.
    Container,
    /// No isolation: the worker has all rights of the agent's user.
    None,
    /// Codex's sandbox around every command; the worker runs as the agent's user.
    Sandbox,
}

/// Outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// The step succeeded.
    Ok,
    /// The step failed by itself.
    Failed,
    /// The step was ended: by a limit, or because the job was cancelled.
    Killed,
    /// The job ended while the step was running, and no outcome was reported.
    Unknown,
}

/// Resource usage of a step's processes, including those that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU time of all processes, in milliseconds.
    pub cpu_ms: u64,
    /// Peak memory of all processes together (resident set, as sampled), in bytes.
    pub peak_memory: u64,
}

/// One item of the worker's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// Text of the item.
    pub text: String,
    /// True if the item is done.
    pub completed: bool,
}

/// One file that the worker changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// Path of the file, as the worker reported it.
    pub path: String,
    /// `add`, `update`, `delete`, or any other kind that Codex reported.
    pub kind: String,
}

/// End state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalState {
    /// The worker completed its turn and every check passed.
    Completed,
    /// The worker or a check failed.
    Failed,
    /// The job was cancelled on request.
    Cancelled,
}

/// Reason why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Kind of the failure.
    pub kind: FailureKind,
    /// One line that a person can act on (≤ [`MAX_TEXT`]).
    pub message: String,
    /// Number of the step in which the failure happened.
    pub step: Option<u32>,
}

/// Changes of a job in its workspace, as counted by git.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Number of files that differ, including new ones.
    pub files: u32,
    /// Lines added in tracked files.
    pub insertions: u32,
    /// Lines removed from tracked files.
    pub deletions: u32,
}
