//! What is configured, without options.

use std::ops::Range;
use std::path::{Path, PathBuf};

use common::job::{CodexSettings, Limits, Sandbox};
use common::rule::{OnLimit, StepRule};

use super::notify::NotifyConfig;
use super::raw::Raw;
use crate::engine::EngineKind;
use crate::exit::Failure;

/// The file, relative to the project root.
pub const FILE: &str = "platform/relay.toml";

/// Everything that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The project root.
    pub root: PathBuf,
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

impl Config {
    /// Reads the configuration of the project at `root`; a missing file means the defaults.
    ///
    /// # Errors
    /// One line with file, line and reason.
    pub fn load(root: &Path) -> Result<Self, Failure> {
        Self::read(root).map(|(config, _)| config)
    }

    /// As [`Config::load`], with the text that was read.
    ///
    /// # Errors
    /// As there.
    pub fn read(root: &Path) -> Result<(Self, String), Failure> {
        let path = root.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::usage(format!("{}: {e}", path.display()))),
        };
        let refused = |mistake: Mistake| {
            let line = line_of(&text, mistake.at.start);
            Failure::usage(format!("{}:{line}: {}", path.display(), mistake.reason))
        };
        let raw: Raw = toml::from_str(&text).map_err(|e| {
            refused(Mistake {
                at: e.span().unwrap_or_default(),
                reason: common::text::one_line(e.message(), 300),
            })
        })?;
        let config = raw.resolve(root).map_err(refused)?;
        Ok((config, text))
    }
}

/// A mistake in the file.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The bytes that are wrong.
    pub(super) at: Range<usize>,
    /// What is wrong with them, in one line.
    pub(super) reason: String,
}

/// The line, from 1, of a byte.
fn line_of(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or(text).matches('\n').count() + 1
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
