//! Configuration of a project, with the defaults for all settings that the file does not contain.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::budget::Budget;
use common::hold::OnQuota;
use common::ids::JobName;
use common::job::{CodexSettings, Limits, Sandbox};
use common::rule::{OnLimit, OnLoop, StepRule};

use super::network::NetworkConfig;
use super::notify::NotifyConfig;
use super::prices::Prices;
use super::resources::ResourceLimits;
use crate::engine_kind::{EngineKind, JobContainers};
use crate::min_free::MinFree;

/// Configuration of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Root of the project.
    pub root: PathBuf,
    /// Text of `relay.toml`; empty if there is no such file.
    pub text: String,
    /// Settings from `[platform]`.
    pub platform: PlatformConfig,
    /// Port of the daemon, from `[relay] port`; `None` for a port that is chosen once per registry.
    pub port: Option<u16>,
    /// Settings from `[codex]`. The default of `sandbox` depends on the engine.
    pub codex: CodexConfig,
    /// True if workers reach the model through the relay, which holds the key, from `[model] gateway`; `None` for the
    /// default, which depends on the engine.
    pub model_gateway: Option<bool>,
    /// Prices of models, from `[prices]` and the defaults.
    pub prices: Prices,
    /// Budget of a day for the model, of all jobs together, from `[budget] day` and `day_tokens`.
    pub day_budget: Budget,
    /// Limits from `[limits]` and `[budget]`.
    pub limits: Limits,
    /// Settings from `[notify]`.
    pub notify: NotifyConfig,
    /// Rules from `[[step]]`, in file order.
    pub rules: Vec<StepRule>,
    /// Reaction to a step over its limit, from `[limits] on_limit`.
    pub on_limit: OnLimit,
    /// Reaction to a worker that repeats itself, from `[limits] on_loop`.
    pub on_loop: OnLoop,
    /// Reaction to a usage limit of the account, from `[queue] on_quota`.
    pub on_quota: OnQuota,
    /// True if jobs get a clone and branch of their own by default, from `[workspace] branch`.
    pub branch: bool,
    /// Maximum number of jobs of each group that run at once, from `[groups]`.
    pub groups: BTreeMap<JobName, u32>,
    /// Hosts that jobs may reach, from `[network]`.
    pub network: NetworkConfig,
}

impl Config {
    /// Returns true if jobs on this engine reach only the hosts of `[network] allow`: each has a container of its own,
    /// and none needs the network for its model.
    pub fn has_allow_list(&self, engine: EngineKind) -> bool {
        self.has_model_gateway(engine) && self.platform.has_boxes(engine)
    }

    /// Returns true if workers reach the model through the relay. That is the default if each job has a container of its
    /// own, because a login can't be in several containers.
    pub fn has_model_gateway(&self, engine: EngineKind) -> bool {
        self.model_gateway.unwrap_or_else(|| self.platform.has_boxes(engine))
    }
}

/// `[platform]`: settings of the workers' platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformConfig {
    pub engine: Option<EngineKind>,
    /// Containers that jobs run in, from `isolation`.
    pub containers: JobContainers,
    /// Name of the container.
    pub name: String,
    /// Name of the image.
    pub image: String,
    /// Image that the platform image is built on.
    pub base_image: String,
    /// Version of Codex that is installed in the image.
    pub codex_version: String,
    /// Folder on the host that is mounted at `/workspaces`.
    pub workspaces_folder: PathBuf,
    /// User and group of the workers in a container: the owner of the workspaces folder, so that its files have the
    /// same owner inside and outside. If the folder is missing, the user and group of this process.
    pub worker_ids: (u32, u32),
    /// Folder with extra CA certificates (`*.crt`) for the image.
    pub certs_folder: PathBuf,
    /// Maximum number of jobs that run at once.
    pub max_jobs: u32,
    /// Resource limits of each container: that of the platform, and those of jobs.
    pub resources: ResourceLimits,
    /// Source of the settings of Codex in a container, from `[codex] mcp` and `config`.
    pub codex_config: WorkerCodexConfig,
    /// Memory and disk space below which no job is started.
    pub min_free: MinFree,
}

/// Source of the `config.toml` of workers in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerCodexConfig {
    /// The model settings of the host's Codex, and some of its MCP servers.
    Host {
        /// Names of the servers.
        mcp: Vec<String>,
    },
    /// A file of the workers' own.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Content, which the approval covers.
        text: String,
    },
}

impl PlatformConfig {
    /// Returns true if each job runs in a container of its own on this engine.
    pub fn has_boxes(&self, engine: EngineKind) -> bool {
        engine.is_container() && self.containers == JobContainers::Job
    }
}

/// `[codex]`: settings for running Codex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodexConfig {
    pub program: String,
    pub model: Option<String>,
    /// Codex's sandbox; `None` for the engine's default.
    pub sandbox: Option<Sandbox>,
    /// Further arguments of Codex.
    pub args: Vec<String>,
}

impl CodexConfig {
    /// Returns the settings of a job on this engine. Without a container the default is Codex's sandbox.
    pub fn job_settings(&self, engine: EngineKind) -> CodexSettings {
        let default = if engine.is_container() { Sandbox::Off } else { Sandbox::WorkspaceWrite };
        CodexSettings {
            program: self.program.clone(),
            model: self.model.clone(),
            sandbox: self.sandbox.unwrap_or(default),
            args: self.args.clone(),
        }
    }
}
