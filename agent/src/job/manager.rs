//! Admission of jobs, and the table of those that run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{fmt, io};

use common::event::{EventBody, Isolation};
use common::ids::JobId;
use common::job::{JobSpec, NO_SANDBOX, Runner, SPEC_SCHEMA, Sandbox, is_thread};
use common::wire::{AgentFrame, Platform};
use tokio::sync::{Notify, watch};

use super::control::{Control, ControlState, extend, send};
use super::log::Log;
use super::secrets;
use super::supervisor::{JobResources, Supervisor};
use crate::codex::command;
use crate::codex::discovery::{self, CodexFinder, CodexInstallation};
use crate::codex::mcp::Servers;
use crate::config::Config;
use crate::confine::sandbox::{JobSandbox, SharedSettings};
use crate::confine::self_test::VerifiedPrograms;
use crate::confine::{admission, shared_settings};
use crate::environment::{self, Variables};
use crate::mask::Masker;
use crate::observe::Observer;
use crate::spool::{RunId, Spool, is_full};
use crate::steps::rules::Rules;
use crate::user::{self, User};
use crate::workspace::WorkspaceDir;
use crate::workspace_log::WorkspaceLog;

/// Properties of the agent that do not change while it runs.
pub(crate) struct AgentContext {
    /// Id of the agent.
    pub(crate) agent: String,
    /// State directory of the agent.
    pub(crate) state: PathBuf,
    /// Environment of the agent.
    pub(crate) env: Variables,
    /// True if the agent runs in a container.
    pub(crate) container: bool,
    /// True if the agent is root, and so can run workers as another user.
    pub(crate) root: bool,
}

// Written by hand, so that no environment value can get into a log.
impl fmt::Debug for AgentContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("agent", &self.agent).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct JobManager {
    context: AgentContext,
    spool: Arc<Spool>,
    codex: CodexFinder,
    verified: VerifiedPrograms,
    /// Serialises the starts: each may have to wait for Codex, and frames are handled meanwhile.
    start_lock: tokio::sync::Mutex<()>,
    /// Observer with the credentials of the workers' user, who is known with the first job.
    observer: OnceLock<Observer>,
    state: Mutex<ManagerState>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct ManagerState {
    config: Option<Arc<Config>>,
    running: HashMap<RunId, watch::Sender<ControlState>>,
    /// Runs that are being started, with the grace in milliseconds if they were cancelled meanwhile.
    starting: HashMap<RunId, Option<u64>>,
    stopping: bool,
}

/// A run that is being started. Dropping it removes the run from `ManagerState::starting`.
struct StartGuard {
    jobs: Arc<JobManager>,
    run: RunId,
}

impl StartGuard {
    fn new(jobs: &Arc<JobManager>, run: &RunId) -> Self {
        jobs.state().starting.entry(run.clone()).or_default();
        Self { jobs: Arc::clone(jobs), run: run.clone() }
    }
}

impl Drop for StartGuard {
    fn drop(&mut self) {
        self.jobs.state().starting.remove(&self.run);
    }
}

/// Reason that a job is refused.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// No capacity now: the job stays queued.
    Busy(String),
    /// The job can't run here.
    Invalid(String),
}

/// Resources of a job beside its spec. No `Debug`: environments hold secrets.
struct Prepared {
    spec: JobSpec,
    env: Variables,
    workers: Variables,
    user: Option<User>,
    codex: String,
    version: Option<String>,
    servers: Servers,
    rules: Rules,
    folder: WorkspaceDir,
    sandbox: Option<JobSandbox>,
}

impl JobManager {
    /// Creates an empty set of jobs.
    pub(crate) fn new(context: AgentContext, spool: Arc<Spool>) -> Self {
        Self {
            context,
            spool,
            codex: CodexFinder::default(),
            verified: VerifiedPrograms::default(),
            start_lock: tokio::sync::Mutex::default(),
            observer: OnceLock::new(),
            state: Mutex::default(),
            ended: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, ManagerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the agent's id.
    pub(crate) fn agent(&self) -> &str {
        &self.context.agent
    }

    /// Returns the number of slots.
    pub(crate) fn max_jobs(&self) -> u32 {
        self.state().config.as_ref().map_or(1, |config| config.max_jobs)
    }

    /// Sets the configuration for new jobs.
    pub(crate) fn configure(&self, config: Arc<Config>) {
        self.state().config = Some(config);
    }

    /// Returns a description of the machine, with any problem that keeps jobs from running there.
    pub(crate) async fn platform(&self) -> Platform {
        let env = self.environment(&Variables::new());
        let found = match &env {
            Ok((env, user)) => {
                let program =
                    self.state().config.as_ref().map_or("codex".to_owned(), |config| config.codex.clone());
                self.codex.find_usable(&program, env, user.as_ref().map(|user| user.ids)).await
            }
            Err(problem) => {
                CodexInstallation { problem: Some(problem.clone()), ..CodexInstallation::default() }
            }
        };
        // A missing sandbox affects every job, a problem of Codex only Codex jobs.
        let problem = self.sandbox_problem().await.or(found.problem);
        let user = env.ok().and_then(|(_, user)| user);
        Platform {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            isolation: self.isolation(user.as_ref()),
            codex: found.version,
            codex_problem: problem.map(|problem| self.build_masker("").text(&problem).into_owned()),
        }
    }

    /// Tries out a configured sandbox in a container, where it mostly can't work. On a machine the first job does
    /// that.
    async fn sandbox_problem(&self) -> Option<String> {
        let config = self.state().config.clone();
        let config = config.filter(|config| config.sandbox == Some(Sandbox::WorkspaceWrite))?;
        if !self.context.container {
            return None;
        }
        let problem = self.verified.verify(&self.shared_settings(&config).await.ok()?).await.err()?;
        tracing::warn!("{problem}");
        Some(format!("{NO_SANDBOX}: remove sandbox from [codex] in relay.toml, the container is one"))
    }

    fn isolation(&self, user: Option<&User>) -> Isolation {
        // A worker with the agent's own privileges (both root) is not isolated by another user name.
        let apart = user.is_some_and(|user| user.ids.uid != 0);
        if self.context.container && apart { Isolation::Container } else { Isolation::None }
    }

    fn environment(&self, job: &Variables) -> Result<(Variables, Option<User>), String> {
        let config = self.state().config.clone();
        let name = config.as_ref().and_then(|config| config.user.clone());
        let user = match name {
            Some(_) if !self.context.root => {
                return Err("workers can run as another user only if the agent runs as root".to_owned());
            }
            Some(name) => Some(user::find(&name)?),
            None => None,
        };
        let none = Variables::new();
        let configured = config.as_ref().map_or(&none, |config| &config.env);
        Ok((environment::build(&self.context.env, user.as_ref(), configured, job), user))
    }

    /// Accepts a job or refuses it. A run that exists already is accepted again.
    ///
    /// A cancel that follows the start immediately finds the run, whether the future was polled by then or not. The
    /// run is also removed if the future is dropped with its connection.
    pub(crate) fn start(
        self: &Arc<Self>,
        run: RunId,
        spec: String,
    ) -> impl Future<Output = AgentFrame> + Send + use<> {
        let starting = StartGuard::new(self, &run);
        async move { starting.jobs.start_one(run, spec).await }
    }

    async fn start_one(self: &Arc<Self>, run: RunId, spec: String) -> AgentFrame {
        let RunId { job, epoch } = run.clone();
        let _turn = self.start_lock.lock().await;
        if self.spool.get(&run).is_some() {
            return AgentFrame::Accepted { job, epoch };
        }
        let mask = Arc::new(self.build_masker(&spec));
        let taken = match self.admit(&run) {
            Ok(()) => self.prepare(&run, &spec).await,
            Err(refusal) => Err(refusal),
        };
        // The agent may have begun to stop while Codex was checked.
        let taken = taken.and_then(|prepared| self.admit(&run).map(|()| prepared));
        match taken.and_then(|prepared| self.launch(run, prepared, &mask)) {
            Ok(()) => AgentFrame::Accepted { job, epoch },
            Err(Refusal::Busy(reason)) => AgentFrame::Refused { job, epoch, reason, busy: true },
            Err(Refusal::Invalid(reason)) => {
                let reason = mask.text(&reason).into_owned();
                tracing::info!("{job} is refused: {reason}");
                AgentFrame::Refused { job, epoch, reason, busy: false }
            }
        }
    }

    /// Finds the secrets of a job that would run here.
    fn build_masker(&self, spec: &str) -> Masker {
        let config = self.state().config.clone();
        secrets::build_masker(config.as_deref(), &self.context.env, spec)
    }

    fn admit(&self, run: &RunId) -> Result<(), Refusal> {
        let state = self.state();
        let most = state.config.as_ref().map_or(1, |config| config.max_jobs) as usize;
        if state.stopping {
            Err(Refusal::Busy("the agent is stopping".to_owned()))
        } else if state.running.keys().any(|other| other.job == run.job) {
            Err(Refusal::Busy("an earlier run of the job is still ending".to_owned()))
        } else if state.running.len() >= most {
            Err(Refusal::Busy(format!("the agent runs {most} jobs already, its limit")))
        } else {
            Ok(())
        }
    }

    async fn prepare(&self, run: &RunId, spec: &str) -> Result<Prepared, Refusal> {
        let bad = |reason: String| Refusal::Invalid(reason);
        let mut spec: JobSpec =
            serde_json::from_str(spec).map_err(|error| bad(secrets::spec_error(&error)))?;
        validate(run, &spec).map_err(bad)?;
        let (mut env, user) = self.environment(&spec.env).map_err(bad)?;
        let (workers, _) = self.environment(&Variables::new()).map_err(bad)?;
        env.insert("RELAY_JOB".to_owned(), run.job.to_string());
        let config = self.state().config.clone();
        let config = config.ok_or_else(|| bad("the agent is not configured yet".to_owned()))?;
        let confined = admission::admit(&spec, &config).map_err(bad)?;
        let folder = WorkspaceDir::open(&spec.workspace, &config.roots).map_err(bad)?;
        if self.is_home(&folder, user.as_ref()) {
            return Err(bad("the workspace is a home folder: choose a folder in it with -w".to_owned()));
        }
        let sandbox = if confined {
            Some(self.sandbox(&config, &folder).await.map_err(bad)?)
        } else {
            admission::check_without_sandbox(folder.path(), &config.hidden).map_err(bad)?;
            None
        };
        let (mut codex, mut version, mut servers) = (String::new(), None, Servers::default());
        if spec.runner == Runner::Codex {
            let found =
                self.codex.find_usable(&spec.codex.program, &env, user.as_ref().map(|user| user.ids)).await;
            (codex, version) = (found.program, found.version);
            servers = Servers::expected(discovery::mcp_servers(&env));
            spec.codex.args.splice(0..0, command::model_only_args(version.as_deref()));
            if let Some(problem) = found.problem {
                return Err(bad(problem));
            }
        }
        let rules = Rules::new(&spec.rules).map_err(bad)?;
        Ok(Prepared { spec, env, workers, user, codex, version, servers, rules, folder, sandbox })
    }

    async fn sandbox(&self, config: &Config, folder: &WorkspaceDir) -> Result<JobSandbox, String> {
        let shared = self.shared_settings(config).await?;
        self.verified.verify(&shared).await?;
        shared.job_sandbox(folder)
    }

    /// Returns the settings that all sandboxes share.
    async fn shared_settings(&self, config: &Config) -> Result<SharedSettings, String> {
        let (workers, user) = self.environment(&Variables::new())?;
        let env = SharedSettings::launcher_env(&workers);
        let found = self.codex.find_program(&config.codex, &env, user.as_ref().map(|user| user.ids)).await;
        shared_settings::assemble(config, &self.context.state, &self.context.env, &workers, &found)
    }

    /// Returns true for the home directory of the agent's or the workers' user.
    fn is_home(&self, folder: &WorkspaceDir, user: Option<&User>) -> bool {
        let homes = [self.context.env.get("HOME"), user.map(|user| &user.home)];
        homes.into_iter().flatten().any(|home| folder.is_at(Path::new(home)))
    }

    /// Launches a job. Its spool is written first: once this returns, the job survives a lost connection.
    fn launch(self: &Arc<Self>, run: RunId, prepared: Prepared, mask: &Arc<Masker>) -> Result<(), Refusal> {
        let Prepared { spec: job, env, workers, user, codex, version, servers, rules, folder, sandbox } =
            prepared;
        let spool = self.spool.create(run.clone(), &secrets::without_values(&job), Arc::clone(mask));
        let spool = spool.map_err(|error| self.spool_refusal(&error))?;
        let ids = user.as_ref().map(|user| user.ids);
        let (copy, problem) = match WorkspaceLog::open(&folder, &run.job, ids) {
            Ok(copy) => (Some(copy), None),
            Err(error) => (None, Some(format!("the workspace gets no copy of the log: {error}"))),
        };
        spool.append(EventBody::Accepted {
            agent: self.context.agent.clone(),
            isolation: if sandbox.is_some() { Isolation::Sandbox } else { self.isolation(user.as_ref()) },
            workspace_log: copy.as_ref().map(WorkspaceLog::path),
        });
        if !spool.is_durable() {
            self.spool.remove(&run);
            return Err(Refusal::Invalid("the agent's spool can't be synchronised to its disk".to_owned()));
        }
        if let Some(message) = problem {
            spool.append(EventBody::Warning { message });
        }
        tracing::info!("{} begins", run.job);
        let (sender, control) = watch::channel(ControlState::default());
        {
            let mut state = self.state();
            if let Some(grace_ms) = state.starting.get(&run).copied().flatten() {
                send(&sender, Control::Cancel { grace_ms });
            }
            state.running.insert(run.clone(), sender);
        }
        let log = Log::new(Arc::clone(&spool), copy, Arc::clone(mask));
        let observer = self.observer.get_or_init(|| Observer::new(ids)).clone();
        let rules = rules.with_mask(Arc::clone(mask));
        let mask = Arc::clone(mask);
        let resources = JobResources {
            env,
            workers,
            user: ids,
            codex,
            version,
            servers,
            rules,
            observer,
            mask,
            folder,
            sandbox,
        };
        let supervisor = Supervisor::new(job, spool, log, control, resources);
        let jobs = Arc::clone(self);
        tokio::spawn(async move {
            supervisor.run().await;
            tracing::info!("{} has ended", run.job);
            jobs.state().running.remove(&run);
            jobs.ended.notify_waiters();
        });
        Ok(())
    }

    /// Returns the refusal for a spool that can't be written. While jobs run that will free space, a full disk is
    /// worth waiting for; otherwise a user has to act.
    fn spool_refusal(&self, error: &io::Error) -> Refusal {
        if is_full(error) {
            let reason = format!("the agent's disk has no room for the job's events: {error}");
            if self.state().running.is_empty() { Refusal::Invalid(reason) } else { Refusal::Busy(reason) }
        } else {
            Refusal::Invalid(format!("the agent's spool can't be written: {error}"))
        }
    }

    /// Cancels a job. Ignored if it does not run.
    pub(crate) fn cancel(&self, job: &JobId, grace_ms: u64) {
        let mut state = self.state();
        for (run, sender) in &state.running {
            if run.job == *job {
                send(sender, Control::Cancel { grace_ms });
            }
        }
        for (_, cancelled) in state.starting.iter_mut().filter(|(run, _)| run.job == *job) {
            *cancelled = Some(grace_ms);
        }
    }

    /// Extends a limit of a job. Ignored if it does not run.
    pub(crate) fn extend(&self, job: &JobId, step: bool, by_ms: u64) {
        for (run, sender) in &self.state().running {
            if run.job == *job {
                extend(sender, step, by_ms);
            }
        }
    }

    /// Ends a run if it is active, and removes it: the relay needs nothing more of it.
    pub(crate) fn abandon(&self, run: &RunId) {
        if let Some(sender) = self.state().running.get(run) {
            tracing::warn!("the relay has closed {run}: ending it");
            send(sender, Control::Cancel { grace_ms: common::job::Limits::GRACE_MS });
        }
        self.spool.remove(run);
    }

    /// Ends all jobs and accepts no more.
    pub(crate) fn stop(&self, grace_ms: u64) {
        let mut state = self.state();
        state.stopping = true;
        for sender in state.running.values() {
            send(sender, Control::Stop { grace_ms });
        }
    }

    /// Waits until no job runs.
    pub(crate) async fn wait_idle(&self) {
        loop {
            // Registered before the check, so that an end in between is not missed.
            let ended = self.ended.notified();
            if self.state().running.is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// Validates a spec, as far as that does not depend on the platform.
fn validate(run: &RunId, spec: &JobSpec) -> Result<(), String> {
    if spec.schema > SPEC_SCHEMA {
        return Err(format!(
            "the job's spec has schema {}, newer than {SPEC_SCHEMA}: update the agent",
            spec.schema
        ));
    }
    if spec.job != run.job {
        return Err(format!("the job's spec belongs to {}", spec.job));
    }
    if !Path::new(&spec.workspace).is_absolute() {
        return Err("the workspace is not an absolute path".to_owned());
    }
    if spec.limits.job_ms == 0 || spec.limits.steps.values().any(|limit| *limit == 0) {
        return Err("a limit must be longer than 0".to_owned());
    }
    if spec.thread.as_deref().is_some_and(|thread| !is_thread(thread)) {
        // Codex would take it for the name of a thread, or for an option.
        return Err("the Codex thread to continue has an invalid id".to_owned());
    }
    let texts = spec.env.iter().flat_map(|(name, value)| [name, value]);
    let texts = texts.chain(&spec.setup).chain(&spec.checks).chain(&spec.codex.args);
    let shell = (spec.runner == Runner::Shell).then_some(&spec.prompt);
    if texts.chain(shell).any(|text| text.contains('\0'))
        || spec.env.keys().any(|name| name.is_empty() || name.contains('='))
    {
        return Err("the job's spec holds a NUL byte, or an invalid environment name".to_owned());
    }
    Ok(())
}
