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
//! bytes, so a record holds nothing that is not in an event.

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
/// How many steps a record keeps: the newest.
pub const MAX_STEPS: usize = 50;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waiting for an agent.
    Queued,
    /// An agent has it; nothing has shown life yet.
    Starting,
    /// Its setup, worker or checks run.
    Running,
    /// It is being ended before its time.
    Stopping,
    /// Done.
    Completed,
    /// Ended without success; see [`JobRecord::error`].
    Failed,
    /// Ended because somebody asked.
    Cancelled,
}

impl State {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Its name in JSON.
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

/// Whether the relay hears from the job's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// It does.
    Connected,
    /// It does not; the record is as old as `last_event_at`.
    Lost,
}

/// The processes that were left at the job's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleanup {
    /// How many did not end by themselves, over the whole job: they were sent TERM or KILL.
    pub killed: u32,
    /// How many could not be.
    pub survivors: u32,
}

/// Everything the registry shows of a job. Times are RFC 3339 in UTC, `null` where unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// [`SCHEMA`]; a record with a newer one is read and never written.
    pub schema: u32,
    /// The job's id, `NAME#N`.
    pub job: JobId,
    /// Where it is in its life.
    pub state: State,
    /// Whether its agent is heard; `null` before an agent had it.
    pub link: Option<Link>,
    /// The working folder on the host.
    pub workspace: String,
    /// First line of the prompt.
    pub prompt_summary: String,
    /// What carries out the prompt.
    pub runner: Runner,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// The model that was asked for; Codex's own where none was.
    #[serde(default)]
    pub model: Option<String>,
    /// When it was launched.
    pub created_at: Timestamp,
    /// Begin of its first step.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When anything was last heard of it.
    pub last_event_at: Timestamp,
    /// The running command's process id, as the agent sees it.
    pub pid: Option<u32>,
    /// The agent that has it.
    pub agent: Option<String>,
    /// The engine of its platform.
    pub engine: String,
    /// What separates the worker from the machine.
    pub isolation: Option<Isolation>,
    /// The streamed log, on the host.
    pub log_path: String,
    /// The workspace's own copy of the log, on the host.
    pub workspace_log: Option<String>,
    /// The event log, on the host.
    pub events_path: String,
    /// The step that runs: the newest that has not ended.
    pub step: Option<CurrentStep>,
    /// The newest [`MAX_STEPS`] steps, without finished waits for the model.
    pub steps: Vec<Step>,
    /// How many steps have begun.
    pub steps_total: u32,
    /// Time spent waiting for the model, in milliseconds, finished waits only.
    pub model_wait_ms: u64,
    /// The worker's plan.
    pub plan: Vec<PlanItem>,
    /// The Codex thread.
    pub thread_id: Option<String>,
    /// Tokens used by the thread.
    pub usage: Option<Usage>,
    /// The worker's last words.
    pub message: Option<String>,
    /// The newest warning that holds.
    pub warning: Option<String>,
    /// The warnings that count, however the job ends.
    #[serde(default)]
    pub warnings: Warnings,
    /// The closing text, at most 12 lines.
    pub summary: Option<String>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// Exit code of the worker.
    pub exit_code: Option<i32>,
    /// Processes left at the end.
    pub cleanup: Option<Cleanup>,
    /// What changed in the workspace.
    pub changes: Option<Changes>,
    /// The newest event of the agent in `epoch`.
    pub seq: u64,
    /// The agent's run of the job; 0 before an agent had it.
    pub epoch: u32,
    /// Fields of a newer program, kept as they were.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl JobRecord {
    /// The record of a job that was just launched.
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

    /// What the record says of the job's launch: the body of its `queued` event.
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

    /// Whether it goes on in the Codex thread of another job, so that its usage is that of the whole thread.
    pub fn goes_on(&self) -> bool {
        self.origin.follows.as_ref().is_some_and(|follows| follows.how == FollowUp::Resume)
    }

    /// Whether it left a Codex thread that another job can go on in.
    pub fn is_resumable(&self) -> bool {
        self.runner == Runner::Codex && self.thread_id.is_some()
    }

    /// Its state in words: `completed with 2 warnings`, so that nothing which has to be looked at passes for plain success.
    pub fn outcome(&self) -> String {
        let state = self.state.as_str();
        match self.warnings.counted().filter(|_| self.state == State::Completed) {
            Some(warnings) => format!("{state} with {warnings}"),
            None => state.to_owned(),
        }
    }

    /// Folds a whole log, oldest line first. `None` when it does not begin with `queued`.
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

    /// Applies one event. Whatever follows the end of a job changes nothing.
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
                self.step_started(Step::begun(event.at, *n, *kind, title.clone(), *limit_ms, *parent));
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
            // A step that still runs is worth more than one that is over, however old it is.
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

    /// The job's own limit is no part of the record.
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
            // What was slow or quiet has ended well.
            self.warning = self.warnings.newest.last().cloned();
        }
        self.summary = Some(crate::summary::of(self));
    }

    /// The record's file: one line of JSON.
    ///
    /// # Errors
    /// Never for a record of this type; serde's signature asks for it.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
