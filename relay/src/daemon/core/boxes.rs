//! Boxes: containers in which one job each runs. Decides when a box is started, started again and removed.
//!
//! ```text
//!             job's turn            started               job ended, agent gone
//!  (no box) ────────────► Starting ─────────► Running ──────────────────────────► Removing ──► (no box)
//!                          ▲   │ failed          │ exited before the end of the job
//!                          │   ▼                 ▼
//!                       Retrying ◄──not accepted yet──┤
//!                          Starting ◄──accepted: once more, so that the agent delivers what it has
//! ```
//!
//! A box stays until its job has ended and its agent has delivered everything, which the agent shows by its exit.

use std::collections::BTreeMap;
use std::time::Duration;

use common::event::{EventBody, FailureKind};
use common::ids::JobId;
use common::record::JobRecord;
use common::wire::TerminationCause;
use tokio::time::Instant;

use super::capacity::AgentId;
use super::container_exit;
use super::effect::{Effect, EngineEffect};
use super::handle::Core;
use super::input_context::InputContext;
use super::job_end::failed_event;
use super::platform::RETRY_PAUSE;
use super::scheduler::Assignment;
use crate::container_state::ContainerExit;
use crate::job_box::{BoxFailure, BoxId};

/// Maximum number of attempts to start a box. The second and third help against an engine that was restarted.
const MAX_ATTEMPTS: u32 = 3;
/// Time limit for the agent of a started box to connect. It needs less than a second on an idle machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit for an agent to deliver the rest and exit after the end of its job was recorded.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for an agent whose job has ended to reconnect. After that time it counts as gone.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The engine creates or starts the container.
    Starting,
    /// The last attempt to start the container has failed.
    Retrying { at: Instant },
    /// The container runs. At the deadline, its agent has to be connected, or gone if the job has ended.
    Running { deadline: Option<Instant> },
    /// The container has exited in order, and the end of its job is about to be recorded.
    Exited { until: Instant },
    /// The engine removes the container.
    Removing,
    /// The last attempt to remove the container has failed.
    NotRemoved { retry_at: Instant },
}

impl Stage {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Retrying { at: deadline }
            | Self::Exited { until: deadline }
            | Self::NotRemoved { retry_at: deadline } => Some(deadline),
            Self::Running { deadline } => deadline,
            Self::Starting | Self::Removing => None,
        }
    }
}

/// A box, and what is known about it.
#[derive(Debug)]
pub(super) struct JobBox {
    pub(super) id: BoxId,
    pub(super) stage: Stage,
    /// Time of the newest start, or of its end. Older lists of boxes say nothing about this box.
    pub(super) started_at: Instant,
    /// Number of failed attempts to start.
    failures: u32,
    /// False once the job has ended or needs this box no longer.
    pub(super) is_wanted: bool,
    /// Newest exit of the container.
    pub(super) exit: Option<ContainerExit>,
    /// True if the container exited again before the newest attempt to start it was over.
    pub(super) has_exited_early: bool,
    /// True after the container was to be started again for a running job.
    pub(super) was_restarted: bool,
}

impl JobBox {
    pub(super) fn new(id: BoxId, stage: Stage, now: Instant) -> Self {
        Self {
            id,
            stage,
            started_at: now,
            failures: 0,
            is_wanted: true,
            exit: None,
            has_exited_early: false,
            was_restarted: false,
        }
    }
}

/// Boxes of the registry's jobs, by their agents.
#[derive(Debug, Default)]
pub(super) struct Boxes {
    pub(super) boxes: BTreeMap<AgentId, JobBox>,
}

impl Boxes {
    /// Returns the time at which [`Core::check_boxes`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.boxes.values().filter_map(|job_box| job_box.stage.deadline()).min()
    }

    /// Returns true if the engine is starting a box.
    pub(super) fn is_starting(&self) -> bool {
        self.boxes.values().any(|job_box| job_box.stage == Stage::Starting)
    }

    /// Marks all boxes as no longer needed.
    pub(super) fn give_up(&mut self) {
        self.boxes.values_mut().for_each(|job_box| job_box.is_wanted = false);
    }

    /// Returns the cause of the exit of an agent's box, if it has exited.
    pub(super) fn termination_cause(&self, agent: &str) -> Option<TerminationCause> {
        self.boxes.get(agent)?.exit.as_ref().map(container_exit::box_termination_cause)
    }
}

impl Core {
    /// Starts a box for a job. A box that exists is used.
    pub(super) fn start_box(&mut self, id: BoxId, context: &mut InputContext) {
        let agent: AgentId = id.agent().as_str().into();
        let new = JobBox::new(id, Stage::Retrying { at: context.now }, context.now);
        let job_box = self.boxes.boxes.entry(agent).or_insert(new);
        job_box.is_wanted = true;
        // A box that is being removed is started when it is gone.
        if !matches!(job_box.stage, Stage::Starting | Stage::Removing) {
            Self::request_start(job_box, context);
        }
    }

    pub(super) fn request_start(job_box: &mut JobBox, context: &mut InputContext) {
        job_box.stage = Stage::Starting;
        job_box.started_at = context.now;
        job_box.has_exited_early = false;
        let id = job_box.id.clone();
        context.push(Effect::Engine(if job_box.was_restarted {
            EngineEffect::RestartBox(id)
        } else {
            EngineEffect::StartBox(id)
        }));
    }

    /// Removes a box, unless it is being started. Then it is removed afterwards.
    pub(super) fn remove_box(&mut self, agent: &AgentId, context: &mut InputContext) {
        let Some(job_box) = self.boxes.boxes.get_mut(agent) else { return };
        job_box.is_wanted = false;
        if !matches!(job_box.stage, Stage::Starting | Stage::Removing) {
            job_box.stage = Stage::Removing;
            context.push(Effect::Engine(EngineEffect::RemoveBox(job_box.id.clone())));
        }
    }

    /// Handles the outcome of an attempt to start a box.
    pub(super) fn on_box_started(
        &mut self,
        agent: &AgentId,
        result: Result<(), BoxFailure>,
        context: &mut InputContext,
    ) {
        let is_connected = self.agents.connections.get_connection(agent).is_some();
        let is_stopping = self.is_stopping_platform();
        let Some(job_box) = self.boxes.boxes.get_mut(agent) else { return };
        // A list from before this moment may lack the box.
        job_box.started_at = context.now;
        job_box.stage = Stage::Running { deadline: (!is_connected).then(|| context.now + CONNECT_TIMEOUT) };
        let job = job_box.id.job().clone();
        if is_stopping {
            self.stop_platform_if_settled(context);
        } else if !job_box.is_wanted {
            self.remove_box(agent, context);
        } else if let Err(failure) = result {
            if job_box.was_restarted {
                tracing::warn!("the container of {job} could not be started again: {}", failure.reason);
                self.on_box_death(agent, false, context);
            } else {
                self.on_box_failure(agent, &failure, context);
            }
        } else if job_box.has_exited_early {
            self.on_box_death(agent, true, context);
        } else if is_connected {
            let actions = self.scheduler.offer_to_box(&job);
            self.execute_actions(actions, context);
        }
    }

    /// Tries again to start a box, or ends its job if that is of no use.
    pub(super) fn on_box_failure(
        &mut self,
        agent: &AgentId,
        failure: &BoxFailure,
        context: &mut InputContext,
    ) {
        let Some(job_box) = self.boxes.boxes.get_mut(agent) else { return };
        job_box.failures += 1;
        let job = job_box.id.job().clone();
        let message = format!("the job's container could not be started: {}", failure.reason);
        tracing::warn!("{job}: {message}");
        if job_box.failures < MAX_ATTEMPTS && !failure.is_permanent {
            job_box.stage = Stage::Retrying { at: context.now + RETRY_PAUSE };
            let message = format!("{message}; it is tried again in {} s", RETRY_PAUSE.as_secs());
            context.push(Effect::Record { job, body: EventBody::Warning { message } });
            return;
        }
        self.end_job_of_box(agent, FailureKind::SpawnFailed, message, context);
    }

    /// Ends a job whose box is of no use, and removes the box.
    fn end_job_of_box(
        &mut self,
        agent: &AgentId,
        kind: FailureKind,
        message: String,
        context: &mut InputContext,
    ) {
        let Some(job_box) = self.boxes.boxes.get(agent) else { return };
        let job = job_box.id.job().clone();
        if self.scheduler.agent_of(&job) == Some(agent) {
            context.push(Effect::Record { job, body: failed_event(kind, message) });
        }
        self.remove_box(agent, context);
    }

    /// Handles the outcome of an attempt to remove a box.
    pub(super) fn on_box_removed(
        &mut self,
        agent: &AgentId,
        result: Result<(), String>,
        context: &mut InputContext,
    ) {
        let Some(job_box) = self.boxes.boxes.get_mut(agent) else { return };
        match result {
            Err(reason) => {
                tracing::warn!("the container of {} could not be removed: {reason}", job_box.id.job());
                job_box.stage = Stage::NotRemoved { retry_at: context.now + RETRY_PAUSE };
            }
            Ok(()) if job_box.is_wanted => Self::request_start(job_box, context),
            Ok(()) => drop(self.boxes.boxes.remove(agent)),
        }
    }

    /// Handles the agent of a box that has connected.
    pub(super) fn on_box_connected(
        &mut self,
        agent: &AgentId,
        held_jobs: impl Iterator<Item = JobId>,
        context: &mut InputContext,
    ) {
        if let Some(job_box) = self.boxes.boxes.get_mut(agent)
            && let Stage::Running { deadline } = &mut job_box.stage
        {
            *deadline = (!job_box.is_wanted).then(|| context.now + LEAVE_TIMEOUT);
        }
        let held_jobs = held_jobs.filter(|job| self.scheduler.is_box_agent(agent, job)).collect();
        // With no capacity, the agent is offered no other job.
        let actions = self.scheduler.on_agent_connected(agent, 0, &held_jobs);
        self.execute_actions(actions, context);
    }

    /// Handles the end of the connection of a box's agent.
    pub(super) fn on_box_disconnected(&mut self, agent: &AgentId, now: Instant) {
        if let Some(job_box) = self.boxes.boxes.get_mut(agent)
            && let Stage::Running { deadline } = &mut job_box.stage
            && !job_box.is_wanted
        {
            *deadline = Some(now + RECONNECT_TIMEOUT);
        }
    }

    /// Gives up the box of a job that has ended.
    pub(super) fn release_box(&mut self, record: &JobRecord, context: &mut InputContext) {
        let has_ended = |job_box: &JobBox| *job_box.id.job() == record.job && job_box.is_wanted;
        let agents = self.boxes.boxes.iter().filter(|(_, job_box)| has_ended(job_box));
        for agent in agents.map(|(agent, _)| agent.clone()).collect::<Vec<_>>() {
            let is_connected = self.agents.connections.get_connection(&agent).is_some();
            let Some(job_box) = self.boxes.boxes.get_mut(&agent) else { continue };
            job_box.is_wanted = false;
            match &mut job_box.stage {
                // An agent that has never accepted the job has nothing to deliver.
                Stage::Running { deadline } if record.agent.is_some() => {
                    let timeout = if is_connected { LEAVE_TIMEOUT } else { RECONNECT_TIMEOUT };
                    *deadline = Some(context.now + timeout);
                }
                _ => self.remove_box(&agent, context),
            }
        }
    }

    /// Handles the deadlines of boxes.
    pub(super) fn check_boxes(&mut self, context: &mut InputContext) {
        if self.is_stopping_platform() {
            return;
        }
        let is_due =
            |job_box: &JobBox| job_box.stage.deadline().is_some_and(|deadline| deadline <= context.now);
        let due = self.boxes.boxes.iter().filter(|(_, job_box)| is_due(job_box));
        for agent in due.map(|(agent, _)| agent.clone()).collect::<Vec<_>>() {
            let is_connected = self.agents.connections.get_connection(&agent).is_some();
            let Some(job_box) = self.boxes.boxes.get_mut(&agent) else { continue };
            let is_running =
                matches!(self.scheduler.assignment(job_box.id.job()), Some(Assignment::Running(_)));
            match &mut job_box.stage {
                _ if !job_box.is_wanted => self.remove_box(&agent, context),
                Stage::Retrying { .. } => Self::request_start(job_box, context),
                Stage::Running { .. } if is_running && job_box.was_restarted && !is_connected => {
                    self.on_box_death(&agent, false, context);
                }
                Stage::Running { deadline } if is_running || is_connected => *deadline = None,
                Stage::Running { .. } => {
                    let seconds = CONNECT_TIMEOUT.as_secs();
                    let message = format!(
                        "the job's container runs, but its agent did not connect within {seconds} s: see `relay doctor`"
                    );
                    self.end_job_of_box(&agent, FailureKind::StartTimeout, message, context);
                }
                Stage::Exited { .. } => self.on_box_death(&agent, true, context),
                Stage::Starting | Stage::Removing | Stage::NotRemoved { .. } => {}
            }
        }
    }
}
