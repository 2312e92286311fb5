//! Milestones of a job.
//!
//! [`EventBody`] is carried by the wire and the agent's spool as it is, so it is a plain enum: no serde tag, flatten,
//! untagged or skip attributes. New variants go to the end.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::{Runner, StepKind};
use crate::origin::Origin;

/// Longest text inside an event, in bytes: the worker's last words and error messages are cut there.
pub const MAX_TEXT: usize = 2048;
/// Longest title of a step, in bytes: one line of a terminal.
pub const MAX_TITLE: usize = 120;
/// Most files named by one `file_change` event, and most items of one `plan` event.
pub const MAX_LIST: usize = 100;

/// Something that happened to a job, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// In UTC, to the millisecond, on the relay's time scale: the events of one run differ by what a monotonic clock counted.
    /// Order comes from `seq`.
    pub at: Timestamp,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// The job was written into the registry. Always the first event of a log.
    Queued(Box<Queued>),
    /// An agent has taken the job and holds its spec on disk.
    Accepted {
        /// The agent's id.
        agent: String,
        /// What separates the worker from the machine.
        isolation: Isolation,
        /// The workspace's own copy of the log, relative to the workspace.
        workspace_log: Option<String>,
    },
    /// A command of the job is alive; once for each setup command, the worker and each check.
    Started {
        /// Its process id, as the agent sees it.
        pid: u32,
        /// The Codex thread, where there is one.
        thread_id: Option<String>,
    },
    /// A step began.
    StepStarted {
        /// Number of the step in its job, from 1.
        n: u32,
        /// What kind of work it is.
        kind: StepKind,
        /// A line for people.
        title: String,
        /// Its time limit in milliseconds.
        limit_ms: Option<u64>,
        /// The step it is part of.
        #[serde(default)]
        parent: Option<u32>,
    },
    /// A step ended.
    StepFinished {
        /// Which.
        n: u32,
        /// How.
        outcome: StepOutcome,
        /// Exit code of its command, where it had one.
        exit_code: Option<i32>,
        /// How long it took, in milliseconds of a monotonic clock.
        elapsed_ms: u64,
        /// What its processes used, where they were seen.
        #[serde(default)]
        resources: Option<Resources>,
    },
    /// The worker said something (≤ [`MAX_TEXT`]).
    Message {
        /// What.
        text: String,
    },
    /// The worker's plan, whole, each time it changes.
    Plan {
        /// Its items in order.
        #[serde(deserialize_with = "crate::bounded::list::<_, _, MAX_LIST>")]
        items: Vec<PlanItem>,
    },
    /// The worker changed files by itself (not through a command).
    FileChange {
        /// Which, at most [`MAX_LIST`].
        #[serde(deserialize_with = "crate::bounded::list::<_, _, MAX_LIST>")]
        files: Vec<ChangedFile>,
    },
    /// Tokens used so far by the whole thread.
    Usage(Usage),
    /// Something a person may want to know; the job goes on.
    Warning {
        /// One line.
        message: String,
    },
    /// A step makes no progress.
    Stalled {
        /// Which.
        n: u32,
        /// What was seen.
        evidence: String,
    },
    /// The relay lost sight of the agent. The job goes on.
    LinkLost {
        /// Why, as far as known.
        reason: String,
    },
    /// The agent is back.
    LinkRestored {
        /// The agent's id.
        agent: String,
    },
    /// The job is being ended before its time.
    Stopping {
        /// Why, in one line.
        reason: String,
    },
    /// The processes that were left at an end.
    Cleanup {
        /// How many did not end by themselves: they were sent TERM or KILL.
        killed: u32,
        /// How many could not be.
        survivors: u32,
    },
    /// The job is over. Nothing follows.
    Finished {
        /// In which state.
        state: FinalState,
        /// Why it failed.
        error: Option<JobError>,
        /// Exit code of the worker.
        exit_code: Option<i32>,
        /// What changed in the workspace since the job began, where it is a git repository.
        changes: Option<Changes>,
    },
    /// A limit that runs was moved.
    Extended {
        /// The step; none for the job itself.
        n: Option<u32>,
        /// The new limit, in milliseconds.
        limit_ms: u64,
    },
    /// A step was ended so that the worker can go on without it.
    Interrupted {
        /// Which.
        n: u32,
        /// Why, in one line.
        reason: String,
    },
}

/// What a record shows before any agent has seen the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The working folder on the host.
    pub workspace: String,
    /// First line of the prompt.
    pub prompt_summary: String,
    /// What carries out the prompt.
    pub runner: Runner,
    /// The engine that runs the platform: `local`, `docker` or `podman`.
    pub engine: String,
    /// The streamed log, on the host.
    pub log_path: String,
    /// The event log, on the host.
    pub events_path: String,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// The model that was asked for; Codex's own where none was.
    #[serde(default)]
    pub model: Option<String>,
}

/// What separates a worker from the machine it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A container, and a user of its own inside.
    Container,
    /// Nothing: the worker can do whatever the agent's user can.
    None,
    /// Codex's own sandbox around every command, as the agent's user.
    Sandbox,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It did what it should.
    Ok,
    /// It failed by itself.
    Failed,
    /// It was ended by a limit or a cancel.
    Killed,
    /// The job ended while it ran, and nothing told how.
    Unknown,
}

/// What the processes of a step used, those that have ended included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU time of all processes, in milliseconds.
    pub cpu_ms: u64,
    /// The most memory they held at once (resident set, as sampled), in bytes.
    pub peak_memory: u64,
}

/// One item of the worker's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// What to do.
    pub text: String,
    /// Whether it is done.
    pub completed: bool,
}

/// One file that the worker changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// Its path, as the worker names it.
    pub path: String,
    /// `add`, `update`, `delete`, or whatever else Codex said.
    pub kind: String,
}

/// Token counts of a Codex thread since its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Of these, how many came from the cache.
    pub cached_input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Of these, how many were reasoning.
    pub reasoning_output_tokens: u64,
}

/// How a job can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalState {
    /// The worker did its turn and every check passed.
    Completed,
    /// It did not.
    Failed,
    /// Somebody asked for the end.
    Cancelled,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// The kind, for programs.
    pub kind: FailureKind,
    /// One line that a person can act on (≤ [`MAX_TEXT`]).
    pub message: String,
    /// The step it happened in.
    pub step: Option<u32>,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// A command could not be started.
    SpawnFailed,
    /// The worker showed no sign of life within its limit.
    StartTimeout,
    /// A step ran over its limit.
    StepTimeout,
    /// A step made no progress.
    Stalled,
    /// The model was silent for longer than its limit.
    ModelSilent,
    /// The job ran over its limit.
    JobTimeout,
    /// Codex reported that its turn failed.
    CodexError,
    /// Codex ended badly without saying why.
    CodexExit,
    /// A setup command failed.
    SetupFailed,
    /// A check failed.
    CheckFailed,
    /// The agent died, and its worker with it.
    AgentLost,
    /// The platform container ended.
    ContainerExited,
    /// The kernel killed the worker or the container for its memory.
    OomKilled,
    /// The agent would not take the job.
    Refused,
    /// The command of a shell job ended badly.
    Exited,
    /// What the account may use of the model is used up.
    UsageLimit,
    /// The model's server takes no more requests for now.
    RateLimited,
    /// The model's server refused the key or login.
    Auth,
    /// The task no longer fits into the model's context window.
    ContextWindow,
    /// The model's server has no capacity left, or is in trouble.
    Overloaded,
    /// The model needs a newer Codex.
    CodexOutdated,
    /// The worker went round in a circle.
    NoProgress,
}

/// What a job changed in its workspace, as git counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Files that differ, new ones included.
    pub files: u32,
    /// Lines added in tracked files.
    pub insertions: u32,
    /// Lines removed from tracked files.
    pub deletions: u32,
}
