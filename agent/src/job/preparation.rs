//! Preparation of a job: its environment, Codex, rules and sandbox, or the reason why it can't run here.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use common::event::Isolation;
use common::job::{
    JobSpec, MAX_IMAGES, NO_SANDBOX_IN_CONTAINER, Runner, SPEC_SCHEMA_VERSION, Sandbox, is_image_name,
    is_thread_id,
};
use common::wire::{ModelGrant, ModelToken, Platform};

use super::manager::{JobManager, Refusal};
use super::secrets;
use super::supervisor::JobResources;
use crate::codex::command;
use crate::codex::discovery::{self, CodexInstallation};
use crate::codex::mcp::ServerTracker;
use crate::config::Config;
use crate::confine::sandbox::{JobSandbox, SharedSettings};
use crate::confine::{admission, shared_settings};
use crate::disk_use::{self, DiskWatch};
use crate::environment::{self, Variables};
use crate::gateway::loopback_port::LoopbackPort;
use crate::gateway::{model_listener, proxy_listener, proxy_settings, settings};
use crate::mask::Masker;
use crate::observe::Observer;
use crate::output::job_output::JobOutput;
use crate::place::cache::RepositoryCache;
use crate::place::folder::{self, FolderKind};
use crate::place::git::PlaceGit;
use crate::place::prepared::PreparedClone;
use crate::spool::RunId;
use crate::steps::rules::Rules;
use crate::user::{self, User, UserIds};
use crate::workspace::WorkspaceDir;

impl JobManager {
    /// Returns the description of this platform for the relay, with any problem that keeps jobs from running here.
    pub(crate) async fn platform(&self) -> Platform {
        let env = self.environment(&Variables::new());
        let codex = match &env {
            // The job itself looks for Codex, if it needs it, and is not delayed by a search before the connection.
            Ok(_) if self.has_one_job() => CodexInstallation::default(),
            Ok((env, user)) => {
                let program = self
                    .lock_state()
                    .config
                    .as_ref()
                    .map_or("codex".to_owned(), |config| config.codex.clone());
                let ids = user.as_ref().map(|user| user.ids);
                if self.lock_state().config.as_ref().is_some_and(|config| config.model_gateway) {
                    // The relay has the credentials.
                    self.codex_finder.find_program(&program, env, ids).await
                } else {
                    self.codex_finder.find_usable(&program, env, ids).await
                }
            }
            Err(problem) => {
                CodexInstallation { problem: Some(problem.clone()), ..CodexInstallation::default() }
            }
        };
        // A missing sandbox affects every job; a problem with Codex affects only Codex jobs.
        let problem = self.sandbox_problem().await.or(codex.problem);
        let user = env.ok().and_then(|(_, user)| user);
        Platform {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            isolation: self.isolation(user.map(|user| user.ids)),
            codex: codex.version,
            codex_problem: problem
                .map(|problem| self.build_masker("", None).mask_text(&problem).into_owned()),
        }
    }

    /// If a sandbox is configured in a container, where it usually can't work, tests it and returns the problem.
    /// Without a container, the first job tests the sandbox.
    async fn sandbox_problem(&self) -> Option<String> {
        let config = self.lock_state().config.clone();
        let config = config.filter(|config| config.sandbox == Some(Sandbox::WorkspaceWrite))?;
        if !self.context.is_in_container {
            return None;
        }
        let problem =
            self.verified_programs.verify(&self.shared_settings(&config).await.ok()?).await.err()?;
        tracing::warn!("{problem}");
        Some(format!(
            "{NO_SANDBOX_IN_CONTAINER}: remove sandbox from [codex] in relay.toml, the container is one"
        ))
    }

    pub(super) fn isolation(&self, user: Option<UserIds>) -> Isolation {
        // A user with id 0 is root like the agent, and can change what the agent reports.
        let is_separate_user = user.is_some_and(|user| user.uid != 0);
        if self.context.is_in_container && is_separate_user { Isolation::Container } else { Isolation::None }
    }

    pub(super) fn environment(&self, job_env: &Variables) -> Result<(Variables, Option<User>), String> {
        let config = self.lock_state().config.clone();
        let name = config.as_ref().and_then(|config| config.user.clone());
        let user = match name {
            Some(_) if !self.context.is_root => {
                return Err("workers can run as another user only if the agent runs as root".to_owned());
            }
            Some(name) => Some(user::find_user(&name)?),
            None => None,
        };
        let none = Variables::new();
        let configured = config.as_ref().map_or(&none, |config| &config.env);
        Ok((environment::worker_environment(&self.context.env, user.as_ref(), configured, job_env), user))
    }

    /// Returns a masker of the secrets that a job with this spec would have on this platform.
    pub(super) fn build_masker(&self, spec: &str, model_token: Option<&ModelToken>) -> Masker {
        let config = self.lock_state().config.clone();
        secrets::build_masker(config.as_deref(), &self.context.env, spec, model_token)
    }

    pub(super) async fn prepare(
        &self,
        run: &RunId,
        spec: &str,
        mask: &Arc<Masker>,
        model: Option<ModelGrant>,
    ) -> Result<(JobSpec, JobResources), Refusal> {
        let invalid = |reason: &str| Refusal::Invalid(reason.to_owned());
        let mut spec: JobSpec =
            serde_json::from_str(spec).map_err(|error| Refusal::Invalid(secrets::spec_error(&error)))?;
        validate(run, &spec).map_err(Refusal::Invalid)?;
        let (mut env, user) = self.environment(&spec.env).map_err(Refusal::Invalid)?;
        let ids = user.as_ref().map(|user| user.ids);
        let (worker_env, _) = self.environment(&Variables::new()).map_err(Refusal::Invalid)?;
        env.insert("RELAY_JOB".to_owned(), run.job.to_string());
        let config = self.lock_state().config.clone();
        let config = config.ok_or_else(|| invalid("the agent is not configured yet"))?;
        let is_confined = admission::admit(&spec, &config).map_err(Refusal::Invalid)?;
        let make = |kind| {
            folder::create(kind, &self.context.state_dir, run, ids, is_confined, &worker_env)
                .map_err(Refusal::Invalid)
        };
        let cache = self.repository_cache(&spec, ids, is_confined, &worker_env).map_err(Refusal::Invalid)?;
        let folder = match &spec.place {
            Some(place) => {
                folder::take_over_kept_place(&self.context.state_dir, run, &spec, is_confined, &worker_env);
                if let Some(cache) = cache.as_ref().filter(|_| place.continues().is_none()) {
                    let (clone, state) = (PreparedClone::of_cache(cache), &self.context.state_dir);
                    folder::take_over_prepared_clone(&clone, state, run, is_confined, &worker_env);
                }
                make(FolderKind::Place)?
            }
            None => WorkspaceDir::open(&spec.workspace, &config.roots).map_err(Refusal::Invalid)?,
        };
        if self.is_home(&folder, user.as_ref()) {
            return Err(invalid("the workspace is a home folder: choose a folder in it with -w"));
        }
        let output = make(FolderKind::Output)?;
        env.insert("RELAY_OUTPUT".to_owned(), output.path().to_owned());
        let sandbox = if is_confined {
            Some(self.sandbox(&config, &folder, Some(&output)).await.map_err(Refusal::Invalid)?)
        } else {
            admission::check_without_sandbox(folder.path(), &config.hidden).map_err(Refusal::Invalid)?;
            None
        };
        let proxy_port = self.open_proxy_port(&config, &mut env, run, &spec.env).await;
        let proxy_port = proxy_port.map_err(Refusal::Invalid)?;
        let (codex, codex_version, mcp_servers) =
            self.find_codex(&mut spec, &env, ids, model.is_some()).await.map_err(Refusal::Invalid)?;
        let images =
            self.images_folder(&mut spec, run, is_confined, &worker_env).map_err(Refusal::Invalid)?;
        let model = match model {
            Some(grant) => {
                Some(self.open_model_port(&mut spec, &mut env, run, &grant).await.map_err(Refusal::Invalid)?)
            }
            None => None,
        };
        let disk_watch = self.disk_watch(&config, ids, &worker_env);
        let rules = Rules::new(&spec.rules).map_err(Refusal::Invalid)?.with_mask(Arc::clone(mask));
        let observer = self.process_observer.get_or_init(|| Observer::new(ids)).clone();
        let place = spec.place.clone().map(|spec| PlaceGit {
            run: run.clone(),
            spec,
            cache,
            streams: self.context.streams.clone(),
            top: folder.clone(),
            env: worker_env.clone(),
            user: ids,
            sandbox: sandbox.clone(),
        });
        let streams = self.context.streams.clone();
        let output =
            JobOutput::new(run.clone(), streams, output, (worker_env.clone(), ids), sandbox.as_ref());
        let (user, mask) = (ids, Arc::clone(mask));
        let resources = JobResources {
            is_only_job: config.one_job,
            disk_watch,
            env,
            worker_env,
            user,
            codex,
            codex_version,
            mcp_servers,
            rules,
            observer,
            mask,
            vitals: self.context.vitals.clone(),
            workspace: folder,
            sandbox,
            place,
            output,
            images_folder: images,
            _model_port: model,
            _proxy_port: proxy_port,
        };
        Ok((spec, resources))
    }

    /// Starts to watch the disk space of a single job's container, if it is limited.
    fn disk_watch(
        &self,
        config: &Config,
        user: Option<UserIds>,
        worker_env: &Variables,
    ) -> Option<DiskWatch> {
        let limit = config.disk.filter(|_| config.one_job)?;
        let state_dir = self.context.state_dir.display().to_string();
        DiskWatch::start(limit, disk_use::measured_folders(user, worker_env.get("HOME"), &state_dir))
    }

    /// Returns the cache of a job's repository, unless the job's worker could change that cache.
    fn repository_cache(
        &self,
        spec: &JobSpec,
        user: Option<UserIds>,
        is_confined: bool,
        worker_env: &Variables,
    ) -> Result<Option<RepositoryCache>, String> {
        let is_other_user = user.is_some_and(|user| user.uid != rustix::process::geteuid().as_raw());
        if spec.place.is_none() || !(is_confined || is_other_user) {
            return Ok(None);
        }
        let caches = folder::caches_folder(&self.context.state_dir, is_confined, worker_env);
        let caches = caches.map_err(|error| format!("the cache of repositories can't be made: {error}"))?;
        let (env, locks) = (&self.context.env, &self.cache_locks);
        Ok(Some(RepositoryCache::of_job(caches, spec, is_other_user, env, locks)))
    }

    /// Opens the port at which the job's processes find the proxy, if there is one, and names it in the job's variables.
    async fn open_proxy_port(
        &self,
        config: &Config,
        env: &mut Variables,
        run: &RunId,
        job_env: &Variables,
    ) -> Result<Option<LoopbackPort>, String> {
        if !config.network_proxy {
            return Ok(None);
        }
        let port = proxy_listener::listen(run.clone(), self.context.streams.clone()).await;
        let port = port.map_err(|error| format!("no port for the proxy can be opened: {error}"))?;
        proxy_settings::set_variables(env, job_env, port.number());
        proxy_settings::set_secret_urls(env, job_env, port.number(), &config.secrets);
        Ok(Some(port))
    }

    /// Opens the port at which the job finds the model, and completes its arguments and variables.
    async fn open_model_port(
        &self,
        spec: &mut JobSpec,
        env: &mut Variables,
        run: &RunId,
        grant: &ModelGrant,
    ) -> Result<LoopbackPort, String> {
        let port = model_listener::listen(run.clone(), grant.token.clone(), self.model_streams.clone()).await;
        let port = port.map_err(|error| format!("no port for the model can be opened: {error}"))?;
        match spec.runner {
            Runner::Codex => {
                spec.codex.args.extend(settings::codex_args(port.number(), grant));
                settings::set_variables(env, &spec.env, &grant.token);
            }
            Runner::Shell => {
                let variables = settings::anthropic_variables(port.number(), &spec.env, &grant.token);
                env.extend(variables.clone());
                settings::reach_loopback_without_proxy(env);
                // The values of the job itself are kept where secrets are removed.
                spec.env.extend(variables);
            }
        }
        Ok(port)
    }

    /// Finds Codex for a job that needs it, and completes its arguments. Returns path, version and MCP servers. With
    /// `has_gateway` Codex needs no credentials.
    async fn find_codex(
        &self,
        spec: &mut JobSpec,
        env: &Variables,
        user: Option<UserIds>,
        has_gateway: bool,
    ) -> Result<(String, Option<String>, ServerTracker), String> {
        if spec.runner != Runner::Codex {
            return Ok((String::new(), None, ServerTracker::default()));
        }
        let codex = if has_gateway {
            self.codex_finder.find_program(&spec.codex.program, env, user).await
        } else {
            self.codex_finder.find_usable(&spec.codex.program, env, user).await
        };
        let servers = ServerTracker::from_configured(discovery::mcp_servers(env));
        spec.codex.args.splice(0..0, command::model_only_args(codex.version.as_deref(), has_gateway));
        match codex.problem {
            Some(problem) => Err(problem),
            None => Ok((codex.program, codex.version, servers)),
        }
    }

    /// Makes the folder of the job's images, if the job has any, and adds the images to Codex's arguments. Only the
    /// agent writes there; the worker, perhaps another user, reads.
    fn images_folder(
        &self,
        spec: &mut JobSpec,
        run: &RunId,
        is_confined: bool,
        worker_env: &Variables,
    ) -> Result<String, String> {
        if spec.images.is_empty() {
            return Ok(String::new());
        }
        let state = &self.context.state_dir;
        let folder = folder::create(FolderKind::Images, state, run, None, is_confined, worker_env)?;
        let result = rustix::fs::fchmod(&folder, rustix::fs::Mode::from_raw_mode(0o755));
        result.map_err(|error| format!("the folder of the images can't be made: {error}"))?;
        let path = folder.path();
        let flags = spec.images.iter().flat_map(|name| ["-i".to_owned(), format!("{path}/{name}")]);
        let flags: Vec<String> = flags.collect();
        spec.codex.args.splice(0..0, flags);
        Ok(path.to_owned())
    }

    pub(super) async fn sandbox(
        &self,
        config: &Config,
        folder: &WorkspaceDir,
        output: Option<&WorkspaceDir>,
    ) -> Result<JobSandbox, String> {
        self.verified_settings(config).await?.job_sandbox(folder, output)
    }

    /// Returns the sandbox of a command of the agent in a folder that a job has written.
    pub(super) async fn folder_sandbox(
        &self,
        config: &Config,
        folder: &WorkspaceDir,
    ) -> Result<JobSandbox, String> {
        self.verified_settings(config).await?.folder_sandbox(folder)
    }

    /// Returns the settings that all sandboxes share, once it is verified that a sandbox works.
    async fn verified_settings(&self, config: &Config) -> Result<SharedSettings, String> {
        let mut shared = self.shared_settings(config).await?;
        // No job may change cached git objects that later jobs use, even if it works in a folder around the caches.
        let (worker_env, _) = self.environment(&Variables::new())?;
        let caches = folder::caches_folder(&self.context.state_dir, true, &worker_env);
        shared.protected_folders.extend(caches.ok().filter(|caches| caches.is_dir()));
        self.verified_programs.verify(&shared).await?;
        Ok(shared)
    }

    /// Returns the settings that all sandboxes share.
    async fn shared_settings(&self, config: &Config) -> Result<SharedSettings, String> {
        let (worker_env, user) = self.environment(&Variables::new())?;
        let env = SharedSettings::launcher_env(&worker_env);
        let codex =
            self.codex_finder.find_program(&config.codex, &env, user.as_ref().map(|user| user.ids)).await;
        shared_settings::assemble(config, &self.context.state_dir, &self.context.env, &worker_env, &codex)
    }

    /// Returns true for the home directory of the agent's or the workers' user.
    fn is_home(&self, folder: &WorkspaceDir, user: Option<&User>) -> bool {
        let homes = [self.context.env.get("HOME"), user.map(|user| &user.home)];
        homes.into_iter().flatten().any(|home| folder.is_reached_by(Path::new(home)))
    }
}

/// Checks the properties of a spec that do not depend on the platform.
fn validate(run: &RunId, spec: &JobSpec) -> Result<(), String> {
    if spec.schema > SPEC_SCHEMA_VERSION {
        return Err(format!(
            "the job's spec has schema {}, newer than {SPEC_SCHEMA_VERSION}: update the agent",
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
    if spec.thread.as_deref().is_some_and(|thread| !is_thread_id(thread)) {
        // Codex would read such an id as the name of a thread, or as an option.
        return Err("the Codex thread to continue has an invalid id".to_owned());
    }
    let has_duplicates = spec.images.iter().collect::<BTreeSet<_>>().len() < spec.images.len();
    if spec.images.len() > MAX_IMAGES || has_duplicates || !spec.images.iter().all(|name| is_image_name(name))
    {
        return Err("the job's spec names its images in an unknown way".to_owned());
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
