//! The job record: a pure fold of the job's events.
//!
//! ```text
//!  queued ──accepted──► starting ──started──► running ──finished──► completed | failed | cancelled
//!    │                     │                     │
//!    │                     └──────stopping───────┴──► stopping ──finished──► (the same)
//!    └──────────────────────finished (cancelled or refused before an agent had it)──► (the same)
//! ```
//!
//! The event log is the truth; the record is its cache. Deleting a record and folding the log again gives the same
//! bytes, so a record contains nothing that is not in an event.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{
    Changes, Event, EventBody, FinalState, Isolation, JobError, PlanItem, Queued, Resources, StepOutcome,
    Usage,
};
use crate::event_line::{EventLine, Source};
use crate::ids::JobId;
use crate::job::{Runner, StepKind};
use crate::json;
use crate::origin::{FollowUp, Origin};
use crate::step::{CurrentStep, Step};
use crate::warnings::{Warnings, is_of_model};

/// Version of the record's JSON.
pub const SCHEMA: u32 = 1;
/// Maximum number of steps that a record keeps: the newest.
pub const MAX_STEPS: usize = 50;

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waiting for an agent.
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
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
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
    /// Not connected; the record is as old as `last_event_at`.
    Lost,
}

/// Processes that were left when the job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleanup {
    /// Number of processes, over the whole job, that did not end by themselves and were sent TERM or KILL.
    pub killed: u32,
    /// Number of processes that could not be killed.
    pub survivors: u32,
}

/// The registry's view of a job. Times are RFC 3339 in UTC, `null` if unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Version of the record, [`SCHEMA`]; a record with a newer version is read and never written.
    pub schema: u32,
    /// Id of the job, `NAME#N`.
    pub job: JobId,
    /// State of the job.
    pub state: State,
    /// Connection to the job's agent; `null` before an agent has accepted the job.
    pub link: Option<Link>,
    /// Working folder on the host.
    pub workspace: String,
    /// First line of the prompt.
    pub prompt_summary: String,
    /// Program that executes the prompt.
    pub runner: Runner,
    /// Origin of the job.
    #[serde(default)]
    pub origin: Origin,
    /// Requested model; defaults to Codex's own.
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
    /// Process id of the running command, as the agent sees it.
    pub pid: Option<u32>,
    /// Id of the job's agent.
    pub agent: Option<String>,
    /// Engine of the agent's platform.
    pub engine: String,
    /// Isolation of the worker from the machine.
    pub isolation: Option<Isolation>,
    /// Path of the streamed log on the host.
    pub log_path: String,
    /// Path of the workspace's own copy of the log on the host.
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
    /// The Codex thread.
    pub thread_id: Option<String>,
    /// Tokens used by the thread.
    pub usage: Option<Usage>,
    /// The worker's last message.
    pub message: Option<String>,
    /// The newest warning that holds.
    pub warning: Option<String>,
    /// The warnings that count, however the job ends.
    #[serde(default)]
    pub warnings: Warnings,
    /// Closing text, at most 12 lines.
    pub summary: Option<String>,
    /// Reason for the failure.
    pub error: Option<JobError>,
    /// Exit code of the worker.
    pub exit_code: Option<i32>,
    /// Processes left at the end.
    pub cleanup: Option<Cleanup>,
    /// Changes in the workspace.
    pub changes: Option<Changes>,
    /// Sequence number of the agent's newest event in `epoch`.
    pub seq: u64,
    /// Run of the job; 0 before an agent has accepted it.
    pub epoch: u32,
    /// Fields written by a newer program, preserved unchanged.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl JobRecord {
    /// Creates the record of a newly launched job.
    pub fn queued(job: JobId, at: Timestamp, queued: &Queued) -> Self {
        Self {
            schema: SCHEMA,
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
            seq: 0,
            epoch: 0,
            unknown: Map::new(),
        }
    }

    /// Returns the facts of the job's launch: the body of its `queued` event.
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
        }
    }

    /// Returns true if the job continues the Codex thread of another job, so that its usage is that of the whole
    /// thread.
    pub fn is_resumed(&self) -> bool {
        self.origin.follows.as_ref().is_some_and(|follows| follows.how == FollowUp::Resume)
    }

    /// Returns true if the job left a Codex thread that another job can continue.
    pub fn is_resumable(&self) -> bool {
        self.runner == Runner::Codex && self.thread_id.is_some()
    }

    /// Describes the state for people: `completed with 2 warnings`, so that a job that needs attention does not look
    /// like a plain success.
    pub fn outcome(&self) -> String {
        let state = self.state.as_str();
        match self.warnings.count_text().filter(|_| self.state == State::Completed) {
            Some(warnings) => format!("{state} with {warnings}"),
            None => state.to_owned(),
        }
    }

    /// Folds a whole log, oldest line first. Returns `None` if it does not begin with `queued`.
    pub fn rebuild<'a>(lines: impl IntoIterator<Item = &'a EventLine>) -> Option<Self> {
        let mut lines = lines.into_iter();
        let first = lines.next()?;
        let event = first.event.as_ref()?;
        let EventBody::Queued(queued) = &event.body else { return None };
        let mut record = Self::queued(first.job.clone(), event.at, queued);
        for line in lines {
            record.apply_line(line);
        }
        Some(record)
    }

    /// Applies one line of the log.
    pub fn apply_line(&mut self, line: &EventLine) {
        if line.source == Source::Agent {
            self.epoch = line.epoch;
            self.seq = line.seq;
        }
        if let Some(event) = &line.event {
            self.apply(event);
        }
    }

    /// Applies one event. Events after the end of a job change nothing.
    fn apply(&mut self, event: &Event) {
        if self.state.is_final() {
            return;
        }
        self.last_event_at = event.at;
        match &event.body {
            EventBody::Queued(_) | EventBody::FileChange { .. } => {}
            EventBody::Accepted { agent, isolation, workspace_log } => {
                self.state = State::Starting;
                self.link = Some(Link::Connected);
                self.agent = Some(agent.clone());
                self.isolation = Some(*isolation);
                self.workspace_log = workspace_log.as_ref().map(|path| format!("{}/{path}", self.workspace));
            }
            EventBody::Started { pid, thread_id } => self.started(event.at, *pid, thread_id.as_ref()),
            EventBody::StepStarted { n, kind, title, limit_ms, parent } => {
                self.started_at.get_or_insert(event.at);
                self.step_started(Step::started(event.at, *n, *kind, title.clone(), *limit_ms, *parent));
            }
            EventBody::StepFinished { n, outcome, exit_code, elapsed_ms, resources } => {
                self.step_finished(*n, *outcome, *exit_code, *elapsed_ms, *resources);
            }
            EventBody::Message { text } => self.message = Some(text.clone()),
            EventBody::Plan { items } => self.plan.clone_from(items),
            EventBody::Usage(usage) => self.usage = Some(*usage),
            EventBody::Warning { message } => self.warn(message.clone()),
            EventBody::Stalled { n, evidence } => {
                self.warning = Some(format!("step {n} makes no progress: {evidence}"));
            }
            EventBody::Interrupted { n, reason } => {
                self.warn(format!("step {n} was interrupted: {reason}"));
            }
            EventBody::Extended { n, limit_ms } => self.extended(*n, *limit_ms),
            EventBody::LinkLost { .. } => self.link = Some(Link::Lost),
            EventBody::LinkRestored { .. } => self.link = Some(Link::Connected),
            EventBody::Stopping { .. } => self.state = State::Stopping,
            EventBody::Cleanup { killed, survivors } => {
                let before = self.cleanup.map_or(0, |cleanup| cleanup.killed);
                self.cleanup =
                    Some(Cleanup { killed: before.saturating_add(*killed), survivors: *survivors });
            }
            EventBody::Finished { state, error, exit_code, changes } => {
                self.state = (*state).into();
                self.error.clone_from(error);
                self.exit_code = *exit_code;
                self.changes = *changes;
                self.finish(event.at);
            }
        }
    }

    fn started(&mut self, at: Timestamp, pid: u32, thread_id: Option<&String>) {
        if self.state == State::Starting {
            self.state = State::Running;
        }
        self.started_at.get_or_insert(at);
        self.pid = Some(pid);
        if let Some(thread_id) = thread_id {
            self.thread_id = Some(thread_id.clone());
        }
    }

    fn step_started(&mut self, step: Step) {
        self.steps_total = self.steps_total.max(step.n);
        self.steps.push(step);
        if self.steps.len() > MAX_STEPS {
            // An active step is more important than an ended one, however old it is.
            let oldest = self.steps.iter().position(|step| step.outcome.is_some()).unwrap_or(0);
            self.steps.remove(oldest);
        }
        self.find_current();
    }

    fn step_finished(
        &mut self,
        n: u32,
        outcome: StepOutcome,
        exit_code: Option<i32>,
        elapsed_ms: u64,
        resources: Option<Resources>,
    ) {
        if let Some(at) = self.steps.iter().position(|step| step.n == n) {
            if self.steps[at].kind == StepKind::Model {
                if outcome == StepOutcome::Ok && self.warning.as_deref().is_some_and(is_of_model) {
                    self.warning = self.warnings.newest.last().cloned();
                }
                self.model_wait_ms = self.model_wait_ms.saturating_add(elapsed_ms);
                self.steps.remove(at);
            } else {
                let step = &mut self.steps[at];
                step.outcome = Some(outcome);
                step.exit_code = exit_code;
                step.elapsed_ms = Some(elapsed_ms);
                step.resources = resources;
            }
        }
        self.find_current();
    }

    fn warn(&mut self, message: String) {
        self.warnings.add(&message);
        self.warning = Some(message);
    }

    /// Applies a new limit of a step. The job's own limit is not part of the record.
    fn extended(&mut self, n: Option<u32>, limit_ms: u64) {
        if let Some(step) = self.steps.iter_mut().find(|step| Some(step.n) == n) {
            step.limit_ms = Some(limit_ms);
        }
        self.find_current();
    }

    fn find_current(&mut self) {
        self.step = self.steps.iter().rev().find(|step| step.outcome.is_none()).map(|step| CurrentStep {
            n: step.n,
            kind: step.kind,
            title: step.title.clone(),
            started_at: step.started_at,
            limit_ms: step.limit_ms,
        });
    }

    fn finish(&mut self, at: Timestamp) {
        self.finished_at = Some(at);
        self.pid = None;
        self.step = None;
        self.steps.retain(|step| step.outcome.is_some() || step.kind != StepKind::Model);
        for step in self.steps.iter_mut().filter(|step| step.outcome.is_none()) {
            step.outcome = Some(StepOutcome::Unknown);
        }
        if self.state == State::Completed {
            // Warnings about slow or stalled steps no longer matter after success.
            self.warning = self.warnings.newest.last().cloned();
        }
        self.summary = Some(crate::summary::summarize(self));
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
