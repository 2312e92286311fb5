//! The platform's slow engine calls, outside of the core.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use common::job::CodexSettings;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::core::{ContainerChange, Input, describe_pause};
use super::listen;
use super::message::Message;
use super::tls::TlsIdentity;
use crate::config::{Config, PlatformConfig};
use crate::container_state::ContainerState;
use crate::engine::agent_config::{AgentConfig, worker_env};
use crate::engine::box_network;
use crate::engine::container::{self, Container, host_name, registry_filter};
use crate::engine::engine_facts::EngineFacts;
use crate::engine::local;
use crate::engine_kind::EngineKind;
use crate::fd_limit::{self, InheritedLimit};
use crate::registry::Registry;
use crate::state_dir::StateDir;
use crate::state_dir::host_secrets::HostSecrets;
use crate::state_dir::threads::Threads;
use crate::state_dir::tokens::{AgentTokens, PLATFORM_HOLDER};

/// Maximum number of boxes that are started or removed at once. Each call keeps a core busy for some time.
const MAX_BOX_CALLS: usize = 4;

/// The platform on which this registry's workers run: a container, or this machine.
#[derive(Debug, Clone)]
pub(super) struct Platform {
    engine: EngineKind,
    pub(super) config: PlatformConfig,
    codex_settings: CodexSettings,
    /// True if workers reach the model through the relay.
    model_gateway: bool,
    /// True if jobs reach only the hosts of `[network] allow`.
    pub(super) has_allow_list: bool,
    /// True if `relay.toml` has this list.
    pub(super) is_explicit_allow_list: bool,
    /// Folder with the socket for agents in containers that reach the relay only there.
    box_socket_dir: PathBuf,
    /// Reason why the containers of jobs can't be without a network, once it was queried.
    pub(super) no_network_obstacle: Arc<OnceLock<Option<String>>>,
    pub(super) registry_dir: PathBuf,
    state_dir: PathBuf,
    /// Folder for the copies that podman makes of the files of a box.
    pub(super) copies: PathBuf,
    port: u16,
    certificate: Arc<str>,
    pub(super) tokens: AgentTokens,
    /// Secrets that the relay adds to requests of jobs.
    pub(super) secrets: HostSecrets,
    /// Codex threads of jobs that had a box.
    pub(super) threads: Threads,
    /// Facts about the engine, as they were at the last start of the platform's container.
    engine_facts: Arc<Mutex<Option<EngineFacts>>>,
    /// Reason why there is no socket for agents in containers, if there is one.
    socket_obstacle: Option<Arc<str>>,
    /// Permits for the engine calls about boxes.
    pub(super) box_permits: Arc<Semaphore>,
    /// Limit on open files that this process inherited.
    inherited_fd_limit: InheritedLimit,
}

impl Platform {
    pub(super) fn new(
        engine: EngineKind,
        config: &Config,
        registry: &Registry,
        state: &StateDir,
        identity: &TlsIdentity,
        port: u16,
    ) -> Self {
        Self {
            engine,
            config: config.platform.clone(),
            codex_settings: config.codex.job_settings(engine),
            model_gateway: config.has_model_gateway(engine),
            has_allow_list: config.has_allow_list(engine),
            is_explicit_allow_list: config.network.is_explicit_allow_list,
            box_socket_dir: state.box_socket_dir(),
            no_network_obstacle: Arc::default(),
            registry_dir: registry.dir().to_owned(),
            state_dir: state.agent(),
            copies: state.copies(),
            port,
            certificate: Arc::clone(&identity.certificate),
            tokens: state.tokens(),
            secrets: state.host_secrets(),
            threads: state.threads(),
            engine_facts: Arc::default(),
            socket_obstacle: None,
            box_permits: Arc::new(Semaphore::new(MAX_BOX_CALLS)),
            inherited_fd_limit: fd_limit::raise_limit(),
        }
    }

    /// Sets the reason why there is no socket for agents in containers. The containers of jobs can't be without a network
    /// then.
    pub(super) fn with_socket_obstacle(self, obstacle: Option<String>) -> Self {
        let socket_obstacle = obstacle.as_deref().map(Arc::from);
        let known = obstacle.map_or_else(OnceLock::new, |reason| OnceLock::from(Some(reason)));
        Self { no_network_obstacle: Arc::new(known), socket_obstacle, ..self }
    }

    pub(super) fn engine(&self) -> EngineKind {
        self.engine
    }

    /// Returns the name of the platform's container.
    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) async fn container_state(&self) -> Result<ContainerState, String> {
        let platform = self.clone();
        run_blocking(move || platform.container().container_state()).await
    }

    /// Returns the engine's command that streams the events of the registry's containers.
    pub(super) fn events_command(&self) -> Vec<String> {
        let (engine, label) = (self.engine.as_str(), registry_filter(&self.registry_dir));
        let words = [engine, "events", "--filter", "type=container", "--filter", &label];
        words.into_iter().chain(["--format", "{{json .}}"]).map(str::to_owned).collect()
    }

    /// Returns true if an agent of engine `local` is running.
    pub(super) fn is_agent_running(&self) -> bool {
        local::is_agent_running(&self.state_dir)
    }

    /// Ensures that the platform runs and that its agent has the address of this relay. The agent then connects with a
    /// new token. A running agent of engine `local` keeps its old token, and a running container with jobs its settings.
    pub(super) async fn ensure_running(&self, has_jobs: bool) -> Result<(), String> {
        let platform = self.clone();
        run_blocking(move || platform.ensure_running_blocking(has_jobs)).await
    }

    fn ensure_running_blocking(&self, has_jobs: bool) -> Result<(), String> {
        if self.engine == EngineKind::Local && local::is_agent_running(&self.state_dir) {
            if self.tokens.has_token(PLATFORM_HOLDER) {
                return local::write_relay_address(&self.state_dir, &self.relay_url());
            }
            tracing::warn!("the running agent has no valid token: restarting it");
            if !local::stop_agent(&self.state_dir) {
                return Err("the agent did not stop in time".to_owned());
            }
        }
        let token =
            self.tokens.mint(PLATFORM_HOLDER).map_err(|e| format!("the agent's token can't be made: {e}"))?;
        let configured = self.configure(&token, has_jobs);
        match configured {
            Ok(()) => self.tokens.revoke_older(PLATFORM_HOLDER, Some(&token)),
            Err(_) => self.tokens.revoke(&token),
        }
        configured
    }

    fn relay_url(&self) -> String {
        format!("wss://{}:{}{}", host_name(self.engine), self.port, common::wire::AGENT_PATH)
    }

    /// Passes the agent its configuration; starts the agent first if needed.
    fn configure(&self, token: &str, has_jobs: bool) -> Result<(), String> {
        if self.engine == EngineKind::Local {
            let config = self.agent_config(token, false);
            return local::start_agent(&self.state_dir, &config, &self.inherited_fd_limit);
        }
        let container = self.container();
        let facts = container.check_engine_and_image()?;
        check_socket(facts.needs_socket(), self.socket_obstacle.as_deref())?;
        *self.engine_facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts.clone());
        let config = self.agent_config(token, facts.needs_socket());
        container.ensure_running(&facts, &config, has_jobs)
    }

    /// Returns facts about the engine. They are queried if the platform's container was not started yet.
    pub(super) fn engine_facts(&self) -> Result<EngineFacts, String> {
        let known = self.engine_facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.map_or_else(|| self.container().query_facts(), Ok)
    }

    /// Returns the configuration of the platform's agent, which reaches the relay at its socket if `has_socket` is true.
    pub(super) fn agent_config(&self, token: &str, has_socket: bool) -> AgentConfig {
        AgentConfig {
            url: self.relay_url(),
            certificate: self.certificate.to_string(),
            token: token.to_owned(),
            max_jobs: self.config.max_jobs,
            user: self.engine.is_container().then_some("worker"),
            codex: self.codex_settings.program.clone(),
            env: worker_env(self.engine, self.model_gateway, std::env::vars()),
            hidden: self.hidden_folders(),
            roots: self.workspace_roots(),
            trusted_args: self.codex_settings.args.clone(),
            sandbox: self.codex_settings.sandbox,
            model_gateway: self.model_gateway,
            one_job: false,
            disk: None,
            socket: has_socket.then(box_network::socket_path),
            network_proxy: false,
            secrets: Vec::new(),
        }
    }

    /// Returns the folders hidden from workers: the project's `platform/`, which contains the settings and the
    /// registry. In a container that folder does not exist, so nothing is hidden.
    fn hidden_folders(&self) -> Vec<String> {
        let folder = self.registry_dir.parent().filter(|_| !self.engine.is_container());
        folder.map(|folder| folder.display().to_string()).into_iter().collect()
    }

    /// Returns the folders that contain workspaces, with their paths on the agent's platform.
    fn workspace_roots(&self) -> Vec<String> {
        if self.engine.is_container() {
            return vec!["/workspaces".to_owned()];
        }
        let project = self.registry_dir.parent().and_then(Path::parent);
        let folders = project.into_iter().chain([self.config.workspaces_folder.as_path()]);
        let resolved = folders.map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.to_owned()));
        resolved.map(|folder| folder.display().to_string()).collect()
    }

    /// Listens on the address at which containers reach this host, if that is necessary and possible.
    pub(super) async fn open_gateway(&self) -> Option<TcpListener> {
        if !self.engine.is_container() || !cfg!(target_os = "linux") {
            return None;
        }
        let platform = self.clone();
        let gateway: Option<IpAddr> =
            tokio::task::spawn_blocking(move || platform.container().gateway_address()).await.ok().flatten();
        match listen::bind_gateway(gateway?, self.port) {
            Ok(listener) => listener,
            Err(e) => {
                tracing::warn!("the containers' gateway can't be listened on: {e}");
                None
            }
        }
    }

    /// Stops the platform, which also ends its workers.
    pub(super) async fn stop(&self) -> Result<(), String> {
        let platform = self.clone();
        run_blocking(move || match platform.engine {
            EngineKind::Local if local::stop_agent(&platform.state_dir) => Ok(()),
            EngineKind::Local => Err("the agent did not stop in time".to_owned()),
            EngineKind::Docker | EngineKind::Podman => {
                platform.stop_boxes()?;
                container::stop(platform.engine, &platform.config.name, &platform.registry_dir)
            }
        })
        .await
    }

    /// Returns the container of the platform.
    pub(super) fn container(&self) -> Container<'_> {
        Container {
            engine: self.engine,
            platform: &self.config,
            registry: &self.registry_dir,
            sandbox: self.codex_settings.sandbox,
            socket_folder: &self.box_socket_dir,
        }
    }
}

/// Checks that there is a socket if the agents need it.
fn check_socket(is_needed: bool, obstacle: Option<&str>) -> Result<(), String> {
    match obstacle.filter(|_| is_needed) {
        Some(reason) => Err(format!(
            "{reason}: containers of podman without root reach the relay only there; mend it, then `relay restart`"
        )),
        None => Ok(()),
    }
}

/// Starts the platform. Inspects its container before the start, because the start erases the container's exit state.
pub(super) async fn start_platform(
    platform: &Platform,
    has_jobs: bool,
    core: &mpsc::Sender<Message>,
) -> Result<(), String> {
    // If the engine does not answer, the next call fails with a better message.
    if platform.engine().is_container()
        && let Ok(state) = platform.container_state().await
    {
        let is_paused = state == ContainerState::Paused;
        // Sending can't fail, because the core exists until the process ends.
        let _ = core.send(Input::ContainerChanged(ContainerChange::Inspected(state)).into()).await;
        if is_paused {
            return Err(describe_pause(platform.engine(), platform.name()));
        }
    }
    platform.ensure_running(has_jobs).await
}

/// Runs `work`, which blocks, on another thread.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(format!("it failed: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_keeps_only_a_platform_that_needs_it_from_starting() {
        let reason = Some("the socket can't be made");
        assert!(check_socket(true, reason).unwrap_err().contains("podman without root"));
        assert_eq!(check_socket(false, reason), Ok(()));
        assert_eq!(check_socket(true, None), Ok(()));
    }
}
