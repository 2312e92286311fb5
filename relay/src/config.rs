//! `platform/relay.toml`: read into a raw form, then resolved into a [`Config`] without options.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::duration;
use common::job::{CodexSettings, Limits, OnLimit, Sandbox, StepKind, StepRule};
use serde::Deserialize;

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

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    platform: RawPlatform,
    relay: RawRelay,
    codex: RawCodex,
    limits: RawLimits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPlatform {
    engine: Option<EngineKind>,
    name: Option<String>,
    image: Option<String>,
    base: Option<String>,
    codex_version: Option<String>,
    workspaces: Option<PathBuf>,
    certs: Option<PathBuf>,
    max_jobs: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRelay {
    port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCodex {
    program: Option<String>,
    model: Option<String>,
    sandbox: Option<Sandbox>,
    args: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLimits {
    job: Option<Millis>,
    grace: Option<Millis>,
    steps: BTreeMap<StepKind, Millis>,
}

/// A human duration.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Millis(u64);

impl TryFrom<String> for Millis {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        duration::parse(&text).map(|value| Self(duration::millis(value)))
    }
}

/// Who owns a folder.
fn owner(folder: &Path) -> (u32, u32) {
    std::fs::metadata(folder).map_or_else(
        |_| (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
        |folder| (folder.uid(), folder.gid()),
    )
}

impl Config {
    /// Reads the configuration of the project at `root`; a missing file means the defaults.
    ///
    /// # Errors
    /// One line with file, line and reason.
    pub fn load(root: &Path) -> Result<Self, Failure> {
        let path = root.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::usage(format!("{}: {e}", path.display()))),
        };
        let raw: Raw = toml::from_str(&text).map_err(|e| {
            let line =
                e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let reason = common::text::one_line(e.message(), 300);
            Failure::usage(format!("{}:{line}: {reason}", path.display()))
        })?;
        raw.resolve(root).map_err(|reason| Failure::usage(format!("{}: {reason}", path.display())))
    }
}

impl Raw {
    fn resolve(self, root: &Path) -> Result<Config, String> {
        let platform = self.platform;
        let max_jobs = platform.max_jobs.unwrap_or(4);
        if !(1..=64).contains(&max_jobs) {
            return Err(format!("[platform] max_jobs = {max_jobs}: must be 1 to 64"));
        }
        let mut limits = Limits::default();
        limits.job_ms = self.limits.job.map_or(limits.job_ms, |value| value.0);
        limits.grace_ms = self.limits.grace.map_or(limits.grace_ms, |value| value.0);
        limits.steps = self.limits.steps.into_iter().map(|(kind, value)| (kind, value.0)).collect();
        let version = env!("CARGO_PKG_VERSION");
        let workspaces = root.join(platform.workspaces.unwrap_or_else(|| "workspace-projects".into()));
        let worker = owner(&workspaces);
        Ok(Config {
            root: root.to_owned(),
            platform: PlatformConfig {
                engine: platform.engine,
                name: platform.name.unwrap_or_else(|| "platform".to_owned()),
                // The user is part of the image, so each has one of its own.
                image: platform.image.unwrap_or_else(|| format!("relay-platform:{version}-u{}", worker.0)),
                base: platform.base.unwrap_or_else(|| "debian:bookworm-slim".to_owned()),
                codex_version: platform
                    .codex_version
                    .unwrap_or_else(|| crate::engine::pinned::codex_version().to_owned()),
                workspaces,
                worker,
                certs: root.join(platform.certs.unwrap_or_else(|| "docker/certs".into())),
                max_jobs,
            },
            port: self.relay.port.filter(|port| *port != 0),
            codex: CodexConfig {
                program: self.codex.program.unwrap_or_else(|| "codex".to_owned()),
                model: self.codex.model,
                sandbox: self.codex.sandbox,
                args: self.codex.args,
            },
            limits,
            rules: Vec::new(),
            on_limit: OnLimit::Fail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Failure> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("platform")).unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        Config::load(dir.path())
    }

    #[test]
    fn defaults_hold_without_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::load(dir.path()).unwrap();
        assert_eq!((config.platform.max_jobs, config.platform.engine), (4, None));
        assert_eq!(config.codex.settings(EngineKind::Local).sandbox, Sandbox::WorkspaceWrite);
        assert_eq!(config.codex.settings(EngineKind::Docker).sandbox, Sandbox::Off);
    }

    #[test]
    fn what_is_set_replaces_the_defaults() {
        let config = load(
            "[platform]\nengine = \"podman\"\nmax_jobs = 2\n[codex]\nsandbox = \"off\"\n\
             [limits]\njob = \"1h\"\nsteps = { install = \"5m\" }\n",
        )
        .unwrap();
        assert_eq!(config.platform.engine, Some(EngineKind::Podman));
        assert_eq!((config.limits.job_ms, config.limits.step_ms(StepKind::Install)), (3_600_000, 300_000));
        assert_eq!(config.codex.settings(EngineKind::Local).sandbox, Sandbox::Off);
    }

    #[test]
    fn mistakes_are_told_with_file_line_and_reason() {
        for (text, line, reason) in [
            ("[limits]\njob = \"0s\"", ":2:", "longer than 0"),
            ("[limits.steps]\n\ninstal = \"5m\"", ":3:", "instal"),
            ("[platform]\nengine = \"qemu\"", ":2:", "qemu"),
            ("[plattform]\n", ":1:", "plattform"),
            ("[platform]\nmax_jobs = 0", "relay.toml:", "1 to 64"),
        ] {
            let message = load(text).unwrap_err().message;
            assert!(message.contains(line) && message.contains(reason), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
