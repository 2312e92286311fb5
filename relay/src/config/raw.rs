//! Content of `relay.toml` as it is parsed. Values that can contradict each other have their position in the file.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::ids::JobName;
use common::job::{MAX_AGENT_JOBS, Sandbox};
use serde::Deserialize;
use toml::Spanned;

use super::budget::RawBudget;
use super::limits::RawLimits;
use super::notify::{RawNotify, resolve_program};
use super::prices::{Prices, RawPrice};
use super::resolved::{CodexConfig, Config, PlatformConfig, WorkerCodexConfig};
use super::resources;
use super::rules::{self, RawRule};
use super::serde_util::ConfigError;
use super::serde_util::DEFAULT_CODEX_PROGRAM;
use crate::bounded_file::read_bounded;
use crate::engine_kind::{EngineKind, JobContainers};
use crate::protected_paths;

/// Maximum number of groups with a limit. It is low, because the lease lists these groups.
const MAX_GROUPS: usize = 200;

/// Content of the whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    platform: RawPlatform,
    relay: RawRelay,
    codex: RawCodex,
    model: RawModel,
    budget: RawBudget,
    prices: BTreeMap<String, Spanned<RawPrice>>,
    limits: RawLimits,
    notify: RawNotify,
    workspace: RawWorkspace,
    groups: Option<Spanned<BTreeMap<JobName, Spanned<u32>>>>,
    step: Vec<Spanned<RawRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPlatform {
    engine: Option<EngineKind>,
    isolation: JobContainers,
    name: Option<String>,
    image: Option<String>,
    base: Option<String>,
    codex_version: Option<String>,
    workspaces: Option<PathBuf>,
    certs: Option<PathBuf>,
    max_jobs: Option<Spanned<u32>>,
    memory: Option<Spanned<String>>,
    cpus: Option<Spanned<f64>>,
    pids: Option<Spanned<u32>>,
    min_free_memory: Option<Spanned<String>>,
    min_free_disk: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRelay {
    port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawModel {
    gateway: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawWorkspace {
    branch: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCodex {
    program: Option<String>,
    model: Option<String>,
    sandbox: Option<Sandbox>,
    args: Vec<String>,
    mcp: Option<Spanned<Vec<String>>>,
    config: Option<Spanned<PathBuf>>,
}

impl RawConfig {
    /// Fills in the defaults and checks the values against each other.
    pub(super) fn resolve(self, root: &Path) -> Result<Config, ConfigError> {
        let on_limit = self.limits.on_limit.unwrap_or_default();
        let on_loop = self.limits.on_loop.unwrap_or_default();
        let job = self.limits.job.as_ref().map(|job| job.get_ref().0);
        let mut limits = self.limits.resolve()?;
        limits.budget = self.budget.resolve()?;
        let codex_config = resolve_codex_config(root, self.codex.mcp, self.codex.config)?;
        let rules = rules::resolve(self.step, &limits, job)?;
        Ok(Config {
            root: root.to_owned(),
            text: String::new(),
            platform: self.platform.resolve(root, codex_config)?,
            port: self.relay.port.filter(|port| *port != 0),
            codex: CodexConfig {
                program: self
                    .codex
                    .program
                    .map_or_else(|| DEFAULT_CODEX_PROGRAM.to_owned(), |codex| resolve_program(root, codex)),
                model: self.codex.model,
                sandbox: self.codex.sandbox,
                args: self.codex.args,
            },
            model_gateway: self.model.gateway,
            prices: Prices::with_configured(self.prices)?,
            limits,
            notify: self.notify.resolve(root)?,
            rules,
            on_limit,
            on_loop,
            branch: self.workspace.branch,
            groups: resolve_groups(self.groups)?,
        })
    }
}

/// Reads the file of the workers' own settings of Codex, if there is one.
fn resolve_codex_config(
    root: &Path,
    mcp: Option<Spanned<Vec<String>>>,
    file: Option<Spanned<PathBuf>>,
) -> Result<WorkerCodexConfig, ConfigError> {
    let Some(file) = file else {
        return Ok(WorkerCodexConfig::Host { mcp: mcp.map(Spanned::into_inner).unwrap_or_default() });
    };
    if let Some(mcp) = mcp.filter(|mcp| !mcp.get_ref().is_empty()) {
        let reason = "[codex] mcp and config: write the servers into the file that config names".to_owned();
        return Err(ConfigError { range: mcp.span(), reason });
    }
    let range = file.span();
    let path = root.join(file.into_inner());
    let error = |reason: String| ConfigError {
        range: range.clone(),
        reason: format!("[codex] config: {} {reason}", path.display()),
    };
    let bytes = read_bounded(&path).map_err(|e| error(format!("can't be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|_| error("is not UTF-8".to_owned()))?;
    text.parse::<toml::Table>().map_err(|e| error(format!("is not valid TOML: {}", e.message())))?;
    Ok(WorkerCodexConfig::File { path, text })
}

/// Checks the table `[groups]`.
fn resolve_groups(
    groups: Option<Spanned<BTreeMap<JobName, Spanned<u32>>>>,
) -> Result<BTreeMap<JobName, u32>, ConfigError> {
    let Some(groups) = groups else { return Ok(BTreeMap::new()) };
    let range = groups.span();
    let groups = groups.into_inner();
    if groups.len() > MAX_GROUPS {
        let reason = format!("[groups] has {} entries: at most {MAX_GROUPS} are allowed", groups.len());
        return Err(ConfigError { range, reason });
    }
    let check = |(name, limit): (JobName, Spanned<u32>)| match *limit.get_ref() {
        0 => Err(ConfigError {
            range: limit.span(),
            reason: format!("[groups] {name} = 0: no job of the group could ever run: set 1 or more"),
        }),
        jobs => Ok((name, jobs)),
    };
    groups.into_iter().map(check).collect()
}

impl RawPlatform {
    fn resolve(self, root: &Path, codex_config: WorkerCodexConfig) -> Result<PlatformConfig, ConfigError> {
        let max_jobs = match self.max_jobs {
            None => 4,
            Some(jobs) if (1..=MAX_AGENT_JOBS).contains(jobs.get_ref()) => jobs.into_inner(),
            Some(jobs) => {
                let reason =
                    format!("[platform] max_jobs = {}: must be 1 to {MAX_AGENT_JOBS}", jobs.get_ref());
                return Err(ConfigError { range: jobs.span(), reason });
            }
        };
        let resources = resources::resolve_limits(self.isolation, self.memory, self.cpus, self.pids)?;
        let min_free = resources::resolve_min_free(self.min_free_memory, self.min_free_disk)?;
        let version = env!("CARGO_PKG_VERSION");
        // The approval and the mount use the link's current target.
        let workspaces = protected_paths::resolve_links(
            &root.join(self.workspaces.unwrap_or_else(|| "workspace-projects".into())),
        );
        let worker = folder_owner(&workspaces);
        Ok(PlatformConfig {
            engine: self.engine,
            containers: self.isolation,
            name: self.name.unwrap_or_else(|| "platform".to_owned()),
            // The user id is part of the image, so each user has a separate image.
            image: self.image.unwrap_or_else(|| format!("relay-platform:{version}-u{}", worker.0)),
            base_image: self.base.unwrap_or_else(|| "debian:bookworm-slim".to_owned()),
            codex_version: self
                .codex_version
                .unwrap_or_else(|| crate::pinned_versions::codex_version().to_owned()),
            workspaces_folder: workspaces,
            worker_ids: worker,
            certs_folder: root.join(self.certs.unwrap_or_else(|| "docker/certs".into())),
            max_jobs,
            resources,
            codex_config,
            min_free,
        })
    }
}

fn folder_owner(folder: &Path) -> (u32, u32) {
    std::fs::metadata(folder).map_or_else(
        |_| (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
        |folder| (folder.uid(), folder.gid()),
    )
}
