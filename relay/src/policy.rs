//! Job policy: checks a spec against the approved settings.
//!
//! ```text
//! relay launch ─► spec ─authorize─► registry (a session may write here) ─► daemon ─authorize─► agent
//! ```
//!
//! A spec chooses task, folder, limits and model. Program and sandbox of Codex come only from the settings, and no part
//! of a spec can bypass the sandbox or leave the folders for workers.

use std::path::{Component, Path, PathBuf};

use common::ids::JobId;
use common::job::{CodexSettings, JobSpec, MAX_SPEC, SPEC_SCHEMA_VERSION, Sandbox, is_thread_id};
use common::text_format::one_line;
use common::{codex_args, env_policy};

use crate::config::Config;
use crate::engine::codex_home;
use crate::engine::workspace::MOUNT_POINT;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::model_server::UpstreamSettings;
use crate::protected_paths::{self, Confinement, ProtectedPaths};

/// Names of folders whose files git or host agents act on. No workspace may lie in one.
const RESERVED_FOLDERS: [&str; 5] = [".git", ".codex", ".agents", ".claude", ".vscode"];

/// Approved settings that jobs must comply with.
#[derive(Debug, Clone)]
pub struct JobPolicy {
    engine: EngineKind,
    codex: CodexSettings,
    workspaces_folder: PathBuf,
    protected_paths: ProtectedPaths,
}

impl JobPolicy {
    /// Builds the policy of these settings.
    pub fn new(engine: EngineKind, config: &Config) -> Self {
        Self {
            engine,
            codex: config.codex.job_settings(engine),
            workspaces_folder: config.platform.workspaces_folder.clone(),
            protected_paths: ProtectedPaths::for_project(&config.root),
        }
    }

    /// Parses and authorizes the spec of `job` from its registry. The job's workspace is `host_path` on this machine.
    /// Returns the spec to send.
    ///
    /// # Errors
    /// Returns a one-line message with the part of the spec that is not allowed, and advice.
    pub fn authorize_text(&self, job: &JobId, text: &str, host_path: &str) -> Result<String, String> {
        if text.len() > MAX_SPEC {
            return Err(format!("its spec is larger than {MAX_SPEC} bytes: launch it again"));
        }
        let mut spec: JobSpec = serde_json::from_str(text)
            .map_err(|e| format!("its spec can't be read ({e}): launch it again"))?;
        if spec.job != *job || spec.schema != SPEC_SCHEMA_VERSION {
            return Err("its spec is that of another job or version: launch it again".to_owned());
        }
        if spec.place.is_some() {
            host_path.clone_into(&mut spec.workspace);
        } else if let Some(mapped) = self.mapped_workspace(&spec.workspace, host_path) {
            spec.workspace = mapped;
        }
        let spec = self.authorize(spec)?;
        serde_json::to_string(&spec).map_err(|e| format!("its spec can't be written ({e}): launch it again"))
    }

    /// Authorizes a spec.
    ///
    /// # Errors
    /// Returns a one-line message with the part of the spec that is not allowed, and advice.
    pub fn authorize(&self, spec: JobSpec) -> Result<JobSpec, String> {
        if spec.place.is_some() {
            return self.authorize_for_clone(spec);
        }
        self.check_workspace(&spec.workspace)?;
        self.authorize_all_but_workspace(spec)
    }

    /// Authorizes the spec of a job with a clone of its own; the clone need not exist yet.
    ///
    /// # Errors
    /// Returns the same error as [`JobPolicy::authorize`].
    pub fn authorize_for_clone(&self, spec: JobSpec) -> Result<JobSpec, String> {
        self.check_source(&spec.workspace)?;
        self.authorize_all_but_workspace(spec)
    }

    /// Authorizes everything in a spec except its workspace, and sets Codex's program, sandbox and arguments.
    fn authorize_all_but_workspace(&self, mut spec: JobSpec) -> Result<JobSpec, String> {
        if let Some(thread) = spec.thread.as_ref().filter(|thread| !is_thread_id(thread)) {
            return Err(format!("'{}' is not the id of a Codex thread", one_line(thread, 60)));
        }
        if let Some(model) = spec.codex.model.as_ref().filter(|model| !is_model_name(model)) {
            return Err(format!("'{}' is not the name of a model", one_line(model, 60)));
        }
        let approved = &self.codex.args;
        let extra_args: Vec<String> = match spec.codex.args.strip_prefix(approved.as_slice()) {
            Some(extra_args) => extra_args.to_vec(),
            // The job was launched while the settings had other arguments.
            None => spec.codex.args.clone(),
        };
        if self.codex.sandbox != Sandbox::Off {
            Self::check_arguments(&extra_args)?;
            if self.engine == EngineKind::Local {
                check_environment(&spec)?;
            }
        }
        spec.codex.program.clone_from(&self.codex.program);
        spec.codex.sandbox = self.codex.sandbox;
        spec.codex.args = approved.iter().cloned().chain(extra_args).collect();
        Ok(spec)
    }

    /// Returns the path on the host of the workspace in an authorized spec. The spec of a job with a clone of its own
    /// always has the path on the host, since no container has to see that folder.
    pub fn host_workspace(&self, spec: &JobSpec) -> PathBuf {
        let path = Path::new(&spec.workspace);
        if !self.engine.is_container() || spec.place.is_some() {
            return path.to_owned();
        }
        // A join with an empty path would add a slash at the end.
        let components = path.strip_prefix(MOUNT_POINT).unwrap_or(Path::new("")).components();
        components.fold(self.workspaces_folder.clone(), |host, part| host.join(part))
    }

    /// Returns the path of the workspace on this engine, for a job that was launched for the other kind of engine.
    fn mapped_workspace(&self, workspace: &str, host_path: &str) -> Option<String> {
        let is_mounted = Path::new(workspace).starts_with(MOUNT_POINT);
        match self.engine.is_container() {
            true if !is_mounted => {
                let relative = Path::new(host_path).strip_prefix(&self.workspaces_folder).ok()?;
                Some(Path::new(MOUNT_POINT).join(relative).to_str()?.trim_end_matches('/').to_owned())
            }
            // This machine may have a folder with the name of the mount point. A workspace in it needs no mapping.
            false if is_mounted && workspace != host_path => Some(host_path.to_owned()),
            _ => None,
        }
    }

    fn check_arguments(args: &[String]) -> Result<(), String> {
        match codex_args::first_forbidden(args) {
            None => Ok(()),
            Some(arg) => Err(format!(
                "the Codex argument '{}' could disable the worker's sandbox: to allow it, add it to [codex] \
                args in platform/relay.toml and approve it with `relay up`",
                one_line(arg, 80)
            )),
        }
    }

    /// Checks the folder of the repository that a job gets a clone of, because relay hands its content to the worker.
    fn check_source(&self, folder: &str) -> Result<(), String> {
        let path = plain_path(folder)?;
        check_host_path(path)?;
        check_not_reserved(path)?;
        self.check_in_project(path)
    }

    fn check_workspace(&self, workspace: &str) -> Result<(), String> {
        let path = plain_path(workspace)?;
        let shown_path = one_line(workspace, 200);
        if self.engine.is_container() {
            let Ok(relative) = path.strip_prefix(MOUNT_POINT) else {
                return Err(format!(
                    "workspace {shown_path} is outside of {MOUNT_POINT}, the folder that the platform sees"
                ));
            };
            // A join with an empty path would add a slash at the end.
            let host =
                relative.components().fold(self.workspaces_folder.clone(), |host, part| host.join(part));
            return check_host_path(&host);
        }
        check_host_path(path)?;
        check_not_reserved(path)?;
        let confinement =
            if self.codex.sandbox == Sandbox::Off { Confinement::None } else { Confinement::Sandbox };
        self.protected_paths.check_folder(path, confinement).map_err(|problem| {
            format!("workspace {shown_path} {problem}: choose a folder of its own below the project with -w")
        })?;
        self.check_in_project(path)
    }

    fn check_in_project(&self, path: &Path) -> Result<(), String> {
        if self.protected_paths.is_in_project(path) || path.starts_with(&self.workspaces_folder) {
            return Ok(());
        }
        Err(format!(
            "workspace {} is outside of the project and of {}: move it there, or name its folder in [platform] \
             workspaces in platform/relay.toml",
            one_line(&path.to_string_lossy(), 200),
            self.workspaces_folder.display()
        ))
    }
}

/// Returns the path of a workspace if it is absolute and has no `..`.
fn plain_path(workspace: &str) -> Result<&Path, String> {
    let path = Path::new(workspace);
    let is_plain = path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let shown = || one_line(workspace, 200);
    is_plain
        .then_some(path)
        .ok_or_else(|| format!("workspace '{}' is not an absolute path without . and ..", shown()))
}

fn check_not_reserved(path: &Path) -> Result<(), String> {
    let is_reserved = |part: &Component<'_>| RESERVED_FOLDERS.iter().any(|name| part.as_os_str() == *name);
    match path.components().find(is_reserved) {
        None => Ok(()),
        Some(part) => Err(format!(
            "workspace {} lies in {}, whose files git and coding agents act on: choose another folder with -w",
            one_line(&path.to_string_lossy(), 200),
            part.as_os_str().display()
        )),
    }
}

fn check_host_path(path: &Path) -> Result<(), String> {
    protected_paths::check_unlinked(path).map_err(|e| {
        format!(
            "workspace {} is not the folder that was named at the launch ({e}): launch it again",
            path.display()
        )
    })
}

fn check_environment(spec: &JobSpec) -> Result<(), String> {
    match env_policy::first_forbidden(spec.env.keys()) {
        None => Ok(()),
        Some(name) => Err(format!(
            "--env {} is not allowed, since it acts on programs outside of the worker's sandbox: set it where `relay up` \
             is run, or in the task's own commands",
            one_line(name, 60)
        )),
    }
}

/// Returns true for a valid model name, which Codex can't mistake for a flag.
fn is_model_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('-') && !name.chars().any(char::is_control)
}

/// Refuses to run jobs in containers of their own without the gateway if Codex has a `ChatGPT` login: its refresh token
/// can be used once, so that copies would log each other out.
fn check_login(
    engine: EngineKind,
    config: &Config,
    settings: impl FnOnce() -> Result<UpstreamSettings, String>,
) -> Result<(), Failure> {
    let has_copies = config.platform.has_boxes(engine) && !config.has_model_gateway(engine);
    if has_copies && settings().is_ok_and(|settings| settings.login.is_some()) {
        return Err(Failure::usage(
            "[model] gateway = false: the ChatGPT login of codex can't be copied into the containers of jobs: remove \
             that line, so that the relay uses the login for them, or set CODEX_API_KEY",
        ));
    }
    Ok(())
}

/// Refuses a list of hosts that jobs would not be kept to.
///
/// # Errors
/// Returns exit code 2 with one line that describes the problem.
pub fn check_allowed_hosts(engine: EngineKind, config: &Config) -> Result<(), Failure> {
    if !config.network.is_explicit_allow_list || config.has_allow_list(engine) {
        return Ok(());
    }
    let reason = if !engine.is_container() {
        "engine local has no network of its own: use --engine docker or podman"
    } else if !config.platform.has_boxes(engine) {
        "they share a container: set isolation = \"job\" in [platform]"
    } else {
        "their Codex needs the network for its model: set gateway = true in [model]"
    };
    Err(Failure::usage(format!(
        "[network] allow: jobs can't be kept to these hosts, because {reason}, or remove that list from \
         platform/relay.toml"
    )))
}

/// Checks the list of allowed hosts, and the settings that name files which a session or a worker could write: the
/// workspaces folder and programs.
///
/// # Errors
/// Returns exit code 2 with one line that describes the problem.
pub fn check_settings(engine: EngineKind, config: &Config) -> Result<(), Failure> {
    check_workspaces(engine, config)?;
    check_allowed_hosts(engine, config)?;
    check_login(engine, config, UpstreamSettings::of_this_process)?;
    if engine.is_container() {
        codex_home::check_mcp_servers(&config.platform.codex_config).map_err(Failure::usage)?;
    }
    let protected_paths = ProtectedPaths::for_project(&config.root);
    let notify = &config.notify;
    let codex_program = (!engine.is_container()).then_some(("[codex] program", &config.codex.program));
    let programs = codex_program.into_iter().chain([("[notify] codex", &notify.codex)]);
    let programs = programs.chain(notify.command.first().map(|program| ("[notify] command", program)));
    let programs =
        programs.filter_map(|(setting, program)| Some((setting, protected_paths::find_program(program)?)));
    // An argument may be a path relative to the project's root.
    let arguments = notify.command.iter().skip(1).map(|argument| config.root.join(argument));
    let arguments = arguments.filter(|file| file.is_file()).map(|file| ("[notify] command", file));
    for (setting, file) in programs.chain(arguments) {
        let file = protected_paths::resolve_links(&file);
        if let Some(location) = protected_paths.shared_location(&file, &config.platform.workspaces_folder) {
            return Err(Failure::usage(format!(
                "{setting}: {} lies in {location}, where a session or a worker can change it, and it runs outside of \
                 every sandbox: move it elsewhere",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Checks the folder that holds all workspaces.
///
/// # Errors
/// Returns exit code 2 with one line that describes the problem.
pub fn check_workspaces(engine: EngineKind, config: &Config) -> Result<(), Failure> {
    let confinement = if engine.is_container() { Confinement::Container } else { Confinement::Sandbox };
    let folder = &config.platform.workspaces_folder;
    ProtectedPaths::for_project(&config.root).check_folder(folder, confinement).map_err(|problem| {
        Failure::usage(format!(
            "[platform] workspaces: {} {problem}: name a folder for workspaces alone, such as workspace-projects, in \
             platform/relay.toml",
            folder.display()
        ))
    })
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
