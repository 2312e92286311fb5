//! The job record: the state of a job, computed from the job's events by a pure fold.
//!
//! ```text
//!  queued ──accepted──► starting ──started──► running ──finished──► completed | failed | cancelled
//!    │                     │                     │
//!    │                     └──────stopping───────┴──► stopping ──finished──► (the same)
//!    └──────────────────────finished (cancelled or refused before an agent had it)──► (the same)
//! ```
//!
//! The record is a cache of the event log: it contains nothing that is not in an event. So a deleted record can be
//! rebuilt from the log, byte for byte.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{Changes, FinalState, Isolation, JobError, MAX_AFTER, PlanItem, Queued, Usage};
use crate::evidence::Evidence;
use crate::folder::{FolderUse, MAX_SHARED_WITH};
use crate::hold::{Hold, OnQuota};
use crate::ids::{JobId, JobName};
use crate::job::Runner;
use crate::json;
use crate::model_usage::{ModelProblem, ModelUsage};
use crate::origin::{FollowUp, Origin};
use crate::refused_hosts::{MAX_REFUSED_HOSTS, RefusedHost};
use crate::result::{JobResult, ResultState};
use crate::step::{CurrentStep, Step};
use crate::vitals::MachineVitals;
use crate::warnings::Warnings;

/// Version of the record's JSON.
pub const SCHEMA_VERSION: u32 = 1;
/// Maximum number of steps in a record. A record keeps the newest ones.
pub const MAX_STEPS: usize = 50;

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// Waiting: no agent has accepted the job yet.
    Queued,
    /// Accepted by an agent; no command has shown activity yet.
    Starting,
    /// Running its setup commands, worker or checks.
    Running,
    /// Being ended before it is done.
    Stopping,
    /// Ended successfully.
    Completed,
    /// Ended without success; see [`JobRecord::error`].
    Failed,
    /// Ended on request.
    Cancelled,
}

impl State {
    /// Returns true if the job has ended and no longer changes.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Returns the name used in JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl From<FinalState> for State {
    fn from(state: FinalState) -> Self {
        match state {
            FinalState::Completed => Self::Completed,
            FinalState::Failed => Self::Failed,
            FinalState::Cancelled => Self::Cancelled,
        }
    }
}

/// State of the relay's connection to the job's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Connected.
    Connected,
    /// Not connected. The record shows the job as it was at `last_event_at`.
    Lost,
}

/// Counts, over the whole job, of the processes that still ran after their command had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleanup {
    /// Number of processes that did not end by themselves and were sent TERM or KILL.
    pub killed: u32,
    /// Number of processes that could not be killed.
    pub survivors: u32,
}

/// The record of a job in the registry. Times are RFC 3339 in UTC, `null` if unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Version of the record's JSON ([`SCHEMA_VERSION`]). This program reads records of a newer version, but never
    /// writes them.
    pub schema: u32,
    /// Id of the job, `NAME#N`.
    pub job: JobId,
    /// State of the job.
    pub state: State,
    /// State of the connection to the job's agent; `null` before an agent has accepted the job.
    pub link: Option<Link>,
    /// Working folder on the host.
    pub workspace: String,
    /// First line of the prompt.
    pub prompt_summary: String,
    /// Program that executes the prompt.
    pub runner: Runner,
    /// Session that launched the job, and the earlier job that the job follows.
    #[serde(default)]
    pub origin: Origin,
    /// Requested model; `null` for Codex's own default.
    #[serde(default)]
    pub model: Option<String>,
    /// Launch time.
    pub created_at: Timestamp,
    /// Start time of the first step.
    pub started_at: Option<Timestamp>,
    /// End time.
    pub finished_at: Option<Timestamp>,
    /// Time of the last event.
    pub last_event_at: Timestamp,
    /// Process id of the running command in the agent's process namespace.
    pub pid: Option<u32>,
    /// Id of the job's agent.
    pub agent: Option<String>,
    /// Engine of the agent's platform.
    pub engine: String,
    /// Isolation of the worker from the machine.
    pub isolation: Option<Isolation>,
    /// Path of the job's log (the output of its commands) on the host.
    pub log_path: String,
    /// Path, on the host, of the copy of the job's log in the workspace.
    pub workspace_log: Option<String>,
    /// Path of the event log on the host.
    pub events_path: String,
    /// The active step: the newest that has not ended.
    pub step: Option<CurrentStep>,
    /// The newest [`MAX_STEPS`] steps, without finished waits for the model.
    pub steps: Vec<Step>,
    /// Number of steps that have begun.
    pub steps_total: u32,
    /// Total time of finished waits for the model, in milliseconds.
    pub model_wait_ms: u64,
    /// The worker's plan.
    pub plan: Vec<PlanItem>,
    /// Id of the Codex thread.
    pub thread_id: Option<String>,
    /// Tokens used by the thread; with `model_usage` those of this job.
    pub usage: Option<Usage>,
    /// The worker's last message.
    pub message: Option<String>,
    /// The newest warning that is still valid.
    pub warning: Option<String>,
    /// Warnings that stay valid until the job's end and after it, with their count.
    #[serde(default)]
    pub warnings: Warnings,
    /// Closing text of the job, at most 12 lines; `null` until the job ends.
    pub summary: Option<String>,
    /// Reason for the failure; `null` for a job that did not fail.
    pub error: Option<JobError>,
    /// Exit code of the worker.
    pub exit_code: Option<i32>,
    /// Counts, over the whole job, of the processes that still ran after their command had ended.
    pub cleanup: Option<Cleanup>,
    /// Changes in the workspace since the job began, as counted by git.
    pub changes: Option<Changes>,
    /// Vitals of the agent's machine when a step last stalled or the kernel killed the worker for lack of memory.
    #[serde(default)]
    pub vitals: Option<MachineVitals>,
    /// Sequence number of the agent's newest event in `epoch`.
    pub seq: u64,
    /// Run of the job; 0 before an agent has accepted it.
    pub epoch: u32,
    /// Result of a job with a clone of its own, once the job has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// The agent's report about a job with a clone of its own: the version of Codex, the requested model, and the
    /// checks that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Use of the working folder: alone, shared with other jobs, or not at all, because the job has a clone of its own.
    #[serde(default, skip_serializing_if = "FolderUse::is_alone")]
    pub folder_use: FolderUse,
    /// Other jobs that worked in the same folder at the same time; `changes` may include theirs. At most
    /// [`MAX_SHARED_WITH`].
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::bounded::deserialize_list::<_, _, MAX_SHARED_WITH>"
    )]
    pub shared_with: Vec<JobId>,
    /// Reason why the queued job waits, one line; `null` if it only needs a free slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Jobs that must complete before this one starts.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::bounded::deserialize_list::<_, _, MAX_AFTER>"
    )]
    pub after: Vec<JobId>,
    /// Job whose result this job starts from, if that result was not known at the launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_job: Option<JobId>,
    /// Group of the job. A limited number of jobs of a group runs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<JobName>,
    /// Tokens of a job whose requests to the model go through the relay, as the relay counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_usage: Option<ModelUsage>,
    /// Problem of the account in the model's newest answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_problem: Option<ModelProblem>,
    /// Reaction to a usage limit of the account.
    #[serde(default, skip_serializing_if = "OnQuota::is_fail")]
    pub on_quota: OnQuota,
    /// Hold of a job that waits until the account can use the model again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Hold>,
    /// Hosts that the relay has refused to connect the job with, in the order of their first refusal. At most
    /// [`MAX_REFUSED_HOSTS`].
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::bounded::deserialize_list::<_, _, MAX_REFUSED_HOSTS>"
    )]
    pub network_refused: Vec<RefusedHost>,
    /// Fields written by a newer program, preserved unchanged.
    #[serde(flatten)]
    pub unknown_fields: Map<String, Value>,
}

impl JobRecord {
    /// Creates the record of a newly launched job.
    pub fn from_queued(job: JobId, at: Timestamp, queued: &Queued) -> Self {
        Self {
            schema: SCHEMA_VERSION,
            job,
            state: State::Queued,
            link: None,
            workspace: queued.workspace.clone(),
            prompt_summary: queued.prompt_summary.clone(),
            runner: queued.runner,
            origin: queued.origin.clone(),
            model: queued.model.clone(),
            created_at: at,
            started_at: None,
            finished_at: None,
            last_event_at: at,
            pid: None,
            agent: None,
            engine: queued.engine.clone(),
            isolation: None,
            log_path: queued.log_path.clone(),
            workspace_log: None,
            events_path: queued.events_path.clone(),
            step: None,
            steps: Vec::new(),
            steps_total: 0,
            model_wait_ms: 0,
            plan: Vec::new(),
            thread_id: None,
            usage: None,
            message: None,
            warning: None,
            warnings: Warnings::default(),
            summary: None,
            error: None,
            exit_code: None,
            cleanup: None,
            changes: None,
            vitals: None,
            seq: 0,
            epoch: 0,
            result: None,
            evidence: None,
            folder_use: queued.folder_use,
            shared_with: Vec::new(),
            waiting: None,
            after: queued.after.clone(),
            base_job: queued.base_job.clone(),
            group: queued.group.clone(),
            model_usage: None,
            model_problem: None,
            on_quota: queued.on_quota,
            held: None,
            network_refused: Vec::new(),
            unknown_fields: Map::new(),
        }
    }

    /// Returns the body of the job's `queued` event: the properties known at launch.
    pub fn to_queued(&self) -> Queued {
        Queued {
            workspace: self.workspace.clone(),
            prompt_summary: self.prompt_summary.clone(),
            runner: self.runner,
            engine: self.engine.clone(),
            log_path: self.log_path.clone(),
            events_path: self.events_path.clone(),
            origin: self.origin.clone(),
            model: self.model.clone(),
            folder_use: self.folder_use,
            after: self.after.clone(),
            base_job: self.base_job.clone(),
            group: self.group.clone(),
            on_quota: self.on_quota,
        }
    }

    /// Returns true if the job continues the Codex thread of an earlier job. `usage` then covers the whole thread.
    pub fn is_resumed(&self) -> bool {
        self.origin.follows.as_ref().is_some_and(|follows| follows.how == FollowUp::Resume)
    }

    /// Returns true if the job has a Codex thread, which another job can continue after this one has ended.
    pub fn has_codex_thread(&self) -> bool {
        self.runner == Runner::Codex && self.thread_id.is_some()
    }

    /// Describes the job's state for display, such as `completed with 2 warnings`.
    pub fn describe_outcome(&self) -> String {
        let mut text = self.state.as_str().to_owned();
        if self.state == State::Completed {
            if let Some(warnings) = self.warnings.count_text() {
                text = format!("{text} with {warnings}");
            }
            if self.changed_nothing() {
                text.push_str(", no changes");
            }
        }
        text
    }

    /// Returns true for a Codex job that changed nothing in its repository. Jobs of other runners are not expected to
    /// change anything.
    fn changed_nothing(&self) -> bool {
        let is_unchanged = match &self.result {
            Some(result) => result.state == ResultState::None,
            None => self.changes == Some(Changes::default()),
        };
        self.runner == Runner::Codex && is_unchanged
    }

    /// Returns the content of the record's file: one line of JSON.
    ///
    /// # Errors
    /// Never fails for a record of this type; serde's signature requires a `Result`.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
