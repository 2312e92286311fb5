//! The configuration, without options.

use std::path::PathBuf;

use common::job::{CodexSettings, Limits, Sandbox};
use common::rule::{OnLimit, OnLoop, StepRule};

use super::notify::NotifyConfig;
use super::resources::Resources;
use crate::engine_kind::EngineKind;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The project root.
    pub root: PathBuf,
    /// Text of the file; empty if there is none.
    pub text: String,
    /// `[platform]`.
    pub platform: PlatformConfig,
    /// `[relay] port`; `None` for one that is chosen once per registry and then kept.
    pub port: Option<u16>,
    /// `[codex]`; the engine determines its sandbox unless it is set.
    pub codex: CodexConfig,
    /// `[limits]`.
    pub limits: Limits,
    /// `[notify]`.
    pub notify: NotifyConfig,
    /// `[[step]]`, in file order.
    pub rules: Vec<StepRule>,
    /// `[limits] on_limit`.
    pub on_limit: OnLimit,
    /// `[limits] on_loop`.
    pub on_loop: OnLoop,
}

/// `[platform]`: settings of the workers' platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformConfig {
    pub engine: Option<EngineKind>,
    /// Name of the container.
    pub name: String,
    /// Name of the image.
    pub image: String,
    /// Base image that it is built from.
    pub base: String,
    /// Version of Codex in the image.
    pub codex_version: String,
    /// Folder on the host that is mounted at `/workspaces`.
    pub workspaces: PathBuf,
    /// User and group of the workers in a container: the owner of that folder, so that its files belong to the same
    /// person on both sides. A missing folder will belong to this process's user.
    pub worker: (u32, u32),
    /// Folder with extra CA certificates (`*.crt`) for the image.
    pub certs: PathBuf,
    /// Number of jobs that run at once.
    pub max_jobs: u32,
    /// Resource limits of the container.
    pub resources: Resources,
}

/// `[codex]`: settings for running Codex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodexConfig {
    pub program: String,
    pub model: Option<String>,
    /// Sandbox; `None` for the engine's default.
    pub sandbox: Option<Sandbox>,
    /// Further arguments.
    pub args: Vec<String>,
}

impl CodexConfig {
    /// Returns the settings of a job on this engine: a container is a sandbox itself, this machine is not.
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
