//! What is configured, without options.

use std::path::PathBuf;

use common::job::{CodexSettings, Limits, Sandbox};
use common::rule::{OnLimit, OnLoop, StepRule};

use super::notify::NotifyConfig;
use super::resources::Resources;
use crate::engine::EngineKind;

/// Everything that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The project root.
    pub root: PathBuf,
    /// The text of the file; empty where there is none.
    pub text: String,
    /// `[platform]`.
    pub platform: PlatformConfig,
    /// `[relay] port`; `None` for one that is chosen once per registry and then kept.
    pub port: Option<u16>,
    /// `[codex]`; its sandbox is resolved by the engine unless it is set.
    pub codex: CodexConfig,
    /// `[limits]`.
    pub limits: Limits,
    /// `[notify]`.
    pub notify: NotifyConfig,
    /// `[[step]]`, in their order.
    pub rules: Vec<StepRule>,
    /// `[limits] on_limit`.
    pub on_limit: OnLimit,
    /// `[limits] on_loop`.
    pub on_loop: OnLoop,
}

/// `[platform]`: where workers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformConfig {
    /// The engine, where one is set.
    pub engine: Option<EngineKind>,
    /// The container's name.
    pub name: String,
    /// The image's name.
    pub image: String,
    /// The image it is built from.
    pub base: String,
    /// Version of Codex in the image.
    pub codex_version: String,
    /// The folder on the host that is mounted at `/workspaces`.
    pub workspaces: PathBuf,
    /// User and group of the workers in a container: whoever owns that folder, so that its files belong to the same person
    /// on both sides. A folder that is not there yet will be this process's.
    pub worker: (u32, u32),
    /// A folder with extra CA certificates (`*.crt`) for the image.
    pub certs: PathBuf,
    /// How many jobs run at once.
    pub max_jobs: u32,
    /// Resource limits of the container.
    pub resources: Resources,
}

/// `[codex]`: how Codex is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodexConfig {
    /// Its program.
    pub program: String,
    /// The model.
    pub model: Option<String>,
    /// Its sandbox; `None` for the engine's default.
    pub sandbox: Option<Sandbox>,
    /// Further arguments.
    pub args: Vec<String>,
}

impl CodexConfig {
    /// The settings of a job on this engine: a container is a sandbox itself, this machine is not.
    pub fn settings(&self, engine: EngineKind) -> CodexSettings {
        let default = if engine.is_container() { Sandbox::Off } else { Sandbox::WorkspaceWrite };
        CodexSettings {
            program: self.program.clone(),
            model: self.model.clone(),
            sandbox: self.sandbox.unwrap_or(default),
            args: self.args.clone(),
        }
    }
}
