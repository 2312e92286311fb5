//! Admission of jobs, and the table of running jobs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{fmt, io};

use common::event::{EventBody, Isolation};
use common::ids::JobId;
use common::job::JobSpec;
use common::wire::{AgentFrame, ModelGrant};
use tokio::sync::{Notify, watch};

use super::control::{Control, ControlState, end_hold, extend_limit, send_control};
use super::log::JobLog;
use super::secrets;
use super::supervisor::{JobResources, Supervisor};
use crate::codex::discovery::CodexFinder;
use crate::config::Config;
use crate::confine::self_test::VerifiedPrograms;
use crate::environment::Variables;
use crate::gateway::model_listener::ModelStreams;
use crate::observe::Observer;
use crate::place::cache::CacheLocks;
use crate::spool::{RunId, Spool, is_disk_full};
use crate::stream_request::StreamOpener;
use crate::vitals::VitalsMonitor;
use crate::workspace_log::WorkspaceLog;

/// Properties of the agent that do not change while it runs.
pub(crate) struct AgentContext {
    pub(crate) agent_id: String,
    /// State directory of the agent.
    pub(crate) state_dir: PathBuf,
    /// Environment of the agent.
    pub(crate) env: Variables,
    /// True if the agent runs in a container.
    pub(crate) is_in_container: bool,
    /// True if the agent is root, and so can run workers as another user.
    pub(crate) is_root: bool,
    pub(crate) vitals: VitalsMonitor,
    pub(crate) streams: StreamOpener,
}

// Implemented by hand: no environment value may get into a log.
impl fmt::Debug for AgentContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentContext").field("agent", &self.agent_id).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct JobManager {
    pub(super) context: AgentContext,
    spool: Arc<Spool>,
    pub(super) codex_finder: CodexFinder,
    pub(super) verified_programs: VerifiedPrograms,
    /// Streams to the model, of all jobs.
    pub(super) model_streams: ModelStreams,
    /// Lock that serialises the starts. A start may wait for Codex while the agent handles further frames.
    start_lock: tokio::sync::Mutex<()>,
    /// Locks of the repository caches.
    pub(super) cache_locks: CacheLocks,
    /// Observer of the jobs' processes, with the credentials of the workers' user. Created with the first job.
    pub(super) process_observer: OnceLock<Observer>,
    state: Mutex<ManagerState>,
    run_ended: Notify,
}

#[derive(Debug, Default)]
pub(super) struct ManagerState {
    pub(super) config: Option<Arc<Config>>,
    running: HashMap<RunId, watch::Sender<ControlState>>,
    /// Runs that are being started, each with the grace period in milliseconds of a cancel that already arrived.
    starting: HashMap<RunId, Option<u64>>,
    is_stopping: bool,
}

/// A run that is being started. Dropping it removes the run from `ManagerState::starting`.
struct StartGuard {
    manager: Arc<JobManager>,
    run: RunId,
}

impl StartGuard {
    fn new(jobs: &Arc<JobManager>, run: &RunId) -> Self {
        jobs.lock_state().starting.entry(run.clone()).or_default();
        Self { manager: Arc::clone(jobs), run: run.clone() }
    }
}

impl Drop for StartGuard {
    fn drop(&mut self) {
        self.manager.lock_state().starting.remove(&self.run);
    }
}

/// Reason for refusing a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The agent has no capacity now. The job stays queued.
    Busy(String),
    /// The job can't run here.
    Invalid(String),
}

impl JobManager {
    /// Creates a manager that runs no job yet.
    pub(crate) fn new(context: AgentContext, spool: Arc<Spool>) -> Self {
        Self {
            model_streams: ModelStreams::new(context.streams.clone()),
            context,
            spool,
            codex_finder: CodexFinder::default(),
            verified_programs: VerifiedPrograms::default(),
            start_lock: tokio::sync::Mutex::default(),
            cache_locks: CacheLocks::default(),
            process_observer: OnceLock::new(),
            state: Mutex::default(),
            run_ended: Notify::new(),
        }
    }

    pub(super) fn lock_state(&self) -> MutexGuard<'_, ManagerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the agent's id.
    pub(crate) fn agent_id(&self) -> &str {
        &self.context.agent_id
    }

    /// Returns the number of slots.
    pub(crate) fn max_jobs(&self) -> u32 {
        self.lock_state().config.as_ref().map_or(1, |config| config.max_jobs)
    }

    /// Returns true if this agent was started for a single job.
    pub(crate) fn has_one_job(&self) -> bool {
        self.lock_state().config.as_ref().is_some_and(|config| config.one_job)
    }

    /// Sets the configuration for new jobs, and the workspace folders that the vitals cover.
    pub(crate) fn configure(&self, config: Arc<Config>) {
        self.context.vitals.set_workspaces(config.roots.iter().map(PathBuf::from));
        self.lock_state().config = Some(config);
    }

    /// Accepts a job or refuses it. A run that exists already is accepted again.
    ///
    /// The run is registered at once, so that a cancel finds it even if the returned future was never polled. If the
    /// future is dropped with its connection, the run is removed.
    pub(crate) fn start(
        self: &Arc<Self>,
        run: RunId,
        spec: String,
        model: Option<ModelGrant>,
    ) -> impl Future<Output = AgentFrame> + Send + use<> {
        let starting = StartGuard::new(self, &run);
        async move { starting.manager.start_run(run, spec, model).await }
    }

    async fn start_run(self: &Arc<Self>, run: RunId, spec: String, model: Option<ModelGrant>) -> AgentFrame {
        let RunId { job, epoch } = run.clone();
        let _guard = self.start_lock.lock().await;
        if self.spool.get_run(&run).is_some() {
            return AgentFrame::Accepted { job, epoch };
        }
        let mask = Arc::new(self.build_masker(&spec, model.as_ref().map(|model| &model.token)));
        let prepared = match self.admit(&run) {
            Ok(()) => self.prepare(&run, &spec, &mask, model).await,
            Err(refusal) => Err(refusal),
        };
        // The agent may have begun to stop while Codex was checked.
        let prepared = prepared.and_then(|job| self.admit(&run).map(|()| job));
        match prepared.and_then(|(spec, resources)| self.launch(run, spec, resources)) {
            Ok(()) => AgentFrame::Accepted { job, epoch },
            Err(Refusal::Busy(reason)) => AgentFrame::Refused { job, epoch, reason, is_busy: true },
            Err(Refusal::Invalid(reason)) => {
                let reason = mask.mask_text(&reason).into_owned();
                tracing::info!("{job} is refused: {reason}");
                AgentFrame::Refused { job, epoch, reason, is_busy: false }
            }
        }
    }

    fn admit(&self, run: &RunId) -> Result<(), Refusal> {
        let state = self.lock_state();
        let max_jobs = state.config.as_ref().map_or(1, |config| config.max_jobs) as usize;
        if state.is_stopping {
            Err(Refusal::Busy("the agent is stopping".to_owned()))
        } else if state.running.keys().any(|other| other.job == run.job) {
            Err(Refusal::Busy("an earlier run of the job is still ending".to_owned()))
        } else if state.running.len() >= max_jobs {
            Err(Refusal::Busy(format!("the agent runs {max_jobs} jobs already, its limit")))
        } else {
            Ok(())
        }
    }

    /// Launches a job. The job's run is first created in the spool, so from then on it survives a lost connection.
    fn launch(self: &Arc<Self>, run: RunId, spec: JobSpec, resources: JobResources) -> Result<(), Refusal> {
        let (mask, user) = (Arc::clone(&resources.mask), resources.user);
        let spool =
            self.spool.create_run(run.clone(), &secrets::spec_without_values(&spec), Arc::clone(&mask));
        let spool = spool.map_err(|error| self.spool_refusal(&error))?;
        let (copy, problem) = match &resources.place {
            // The place is a repository of its own, and only the worker looks there.
            Some(_) => (None, None),
            None => match WorkspaceLog::open(&resources.workspace, &run.job, user) {
                Ok(copy) => (Some(copy), None),
                Err(error) => (None, Some(format!("the workspace gets no copy of the log: {error}"))),
            },
        };
        let is_confined = resources.sandbox.is_some();
        spool.append(EventBody::Accepted {
            agent: self.context.agent_id.clone(),
            isolation: if is_confined { Isolation::Sandbox } else { self.isolation(user) },
            workspace_log: copy.as_ref().map(WorkspaceLog::path),
        });
        if !spool.is_durable() {
            self.spool.remove_run(&run);
            return Err(Refusal::Invalid("the agent's spool can't be synchronised to its disk".to_owned()));
        }
        if let Some(message) = problem {
            spool.append(EventBody::Warning { message });
        }
        tracing::info!("{} begins", run.job);
        let (sender, control) = watch::channel(ControlState::default());
        {
            let mut state = self.lock_state();
            if let Some(grace_ms) = state.starting.get(&run).copied().flatten() {
                send_control(&sender, Control::Cancel { grace_ms });
            }
            state.running.insert(run.clone(), sender);
        }
        let log = JobLog::new(Arc::clone(&spool), copy, mask);
        let supervisor = Supervisor::new(spec, spool, log, control, resources);
        let jobs = Arc::clone(self);
        tokio::spawn(async move {
            supervisor.run().await;
            tracing::info!("{} has ended", run.job);
            jobs.lock_state().running.remove(&run);
            jobs.run_ended.notify_waiters();
        });
        Ok(())
    }

    /// Returns the refusal for a spool that can't be written. If the disk is full while other jobs run, they may free
    /// space, so the job stays queued. Otherwise a user has to act.
    fn spool_refusal(&self, error: &io::Error) -> Refusal {
        if is_disk_full(error) {
            let reason = format!("the agent's disk has no room for the job's events: {error}");
            if self.lock_state().running.is_empty() {
                Refusal::Invalid(reason)
            } else {
                Refusal::Busy(reason)
            }
        } else {
            Refusal::Invalid(format!("the agent's spool can't be written: {error}"))
        }
    }

    /// Cancels a job. Does nothing if the job does not run.
    pub(crate) fn cancel(&self, job: &JobId, grace_ms: u64) {
        let mut state = self.lock_state();
        for (run, sender) in &state.running {
            if run.job == *job {
                send_control(sender, Control::Cancel { grace_ms });
            }
        }
        for (_, cancel_grace) in state.starting.iter_mut().filter(|(run, _)| run.job == *job) {
            *cancel_grace = Some(grace_ms);
        }
    }

    /// Extends a limit of a job. Does nothing if the job does not run.
    pub(crate) fn extend(&self, job: &JobId, is_step_limit: bool, by_ms: u64) {
        for (run, sender) in &self.lock_state().running {
            if run.job == *job {
                extend_limit(sender, is_step_limit, by_ms);
            }
        }
    }

    /// Lets a job go on that waits for the end of a usage limit. Does nothing if the job does not wait.
    pub(crate) fn end_hold(&self, job: &JobId) {
        for (run, sender) in &self.lock_state().running {
            if run.job == *job {
                end_hold(sender);
            }
        }
    }

    /// Ends a run if it is active, and removes it, because the relay has closed it.
    pub(crate) fn abandon(&self, run: &RunId) {
        if let Some(sender) = self.lock_state().running.get(run) {
            tracing::warn!("the relay has closed {run}: ending it");
            send_control(sender, Control::Cancel { grace_ms: common::job::Limits::GRACE_MS });
        }
        self.spool.remove_run(run);
    }

    /// Ends all jobs and accepts no more.
    pub(crate) fn stop(&self, grace_ms: u64) {
        let mut state = self.lock_state();
        state.is_stopping = true;
        for sender in state.running.values() {
            send_control(sender, Control::Stop { grace_ms });
        }
    }

    /// Waits until no job runs.
    pub(crate) async fn wait_idle(&self) {
        loop {
            // The waiter is registered before the check, so that it misses no run that ends right after the check.
            let ended = self.run_ended.notified();
            if self.lock_state().running.is_empty() {
                return;
            }
            ended.await;
        }
    }
}
