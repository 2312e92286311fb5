//! Context shared by all checks, gathered once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::approval::{self, ApprovableSettings, ApprovalState, Initiator};
use crate::config::{self, Config};
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::protected_paths;
use crate::registry::Registry;
use crate::registry::lease::{self, Lease, PlatformStatus};
use crate::sandbox::{self, Sandbox};
use crate::start_daemon;

/// Context shared by all checks.
#[derive(Debug)]
pub struct CheckContext {
    /// Root of the project.
    pub root: PathBuf,
    /// Registry of the project.
    pub registry: Registry,
    /// Settings of `relay.toml`.
    pub config: Result<Config, UnusableSettings>,
    /// Comparison of the settings to the approved ones.
    pub approval: Option<ApprovalState>,
    /// Person or session that runs the checks.
    pub initiator: Initiator,
    /// Engine of the running relay; if none is running, the engine that the next relay will use.
    pub engine: EngineKind,
    /// Lease of the last relay of the project.
    pub lease: Option<Lease>,
    /// True if a relay is running.
    pub is_relay_running: bool,
    /// Sandbox around this process in which no relay can run.
    pub sandbox: Option<Sandbox>,
    /// Current time.
    pub now: Timestamp,
    env: HashMap<String, String>,
}

/// Reason why no check uses the settings.
#[derive(Debug)]
pub enum UnusableSettings {
    /// The file can't be read or is invalid.
    Unreadable(Failure),
    /// A session runs the checks, and the settings are not approved.
    NotApproved,
}

impl UnusableSettings {
    /// Returns the explanation for a check that needs the settings.
    pub(super) fn explanation(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "relay.toml can't be read",
            Self::NotApproved => "the settings are not approved",
        }
    }
}

impl CheckContext {
    /// Gathers the context from files and the environment only.
    pub fn new(root: &Path, registry: &Registry, initiator: Initiator) -> Self {
        let loaded = Config::load(root);
        let lease = lease::read_lease(registry);
        let is_running = lease::is_held(registry);
        let engine = loaded.as_ref().map_or(EngineKind::Docker, |config| {
            if is_running {
                start_daemon::running_engine(config)
            } else {
                start_daemon::choose_engine(None, config)
            }
        });
        let settings = loaded.as_ref().ok().map(|config| ApprovableSettings::new(engine, config));
        let approval = settings.as_ref().map(|settings| approval::approval_state(root, settings));
        let config = match loaded {
            Err(failure) => Err(UnusableSettings::Unreadable(failure)),
            // With unapproved settings, a session could see files that its sandbox hides.
            Ok(_) if initiator == Initiator::Session && approval != Some(ApprovalState::Approved) => {
                Err(UnusableSettings::NotApproved)
            }
            Ok(config) => Ok(config),
        };
        Self {
            root: root.to_owned(),
            registry: registry.clone(),
            initiator,
            config,
            engine,
            is_relay_running: is_running,
            approval,
            now: lease::current_time_of(lease.as_ref()),
            lease,
            sandbox: sandbox::current_sandbox(),
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        }
    }

    /// Returns an environment variable that is not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns true if workers reach the model through the relay.
    pub(super) fn has_model_gateway(&self) -> bool {
        self.config.as_ref().is_ok_and(|config| config.has_model_gateway(self.engine))
    }

    /// Returns the status of the running relay's platform.
    pub(super) fn platform(&self) -> Option<&PlatformStatus> {
        self.lease.as_ref().filter(|_| self.is_relay_running).map(|lease| &lease.platform)
    }

    /// Returns true if a program named in the settings may be run: the settings are approved, or the program is the
    /// default one and lies outside of the project.
    pub(super) fn may_run(&self, program: &str, path: &Path) -> bool {
        let is_default_program = program == config::DEFAULT_CODEX_PROGRAM
            && !protected_paths::resolve_links(path).starts_with(&self.root);
        self.approval == Some(ApprovalState::Approved) || is_default_program
    }

    /// Returns the command that approves the settings.
    pub(super) fn approve_command(&self) -> String {
        // A running relay keeps the settings that it was started with.
        let command =
            if self.is_relay_running { self.command_outside_sandbox("restart") } else { self.up_command() };
        match self.initiator {
            Initiator::Session => format!("a person has to run {command} in a terminal"),
            Initiator::Person => format!("{command} shows them and asks"),
        }
    }

    /// Returns the command that starts the relay.
    pub(super) fn up_command(&self) -> String {
        self.command_outside_sandbox("up")
    }

    fn command_outside_sandbox(&self, command: &str) -> String {
        match self.sandbox {
            Some(_) => {
                format!(
                    "`{}` in a terminal outside of this sandbox",
                    sandbox::command_with_root(command, &self.root)
                )
            }
            None => format!("`relay {command}`"),
        }
    }

    /// Returns Codex's home on this machine.
    pub(super) fn codex_home(&self) -> Option<PathBuf> {
        let configured = self.variable("CODEX_HOME").map(PathBuf::from);
        configured.or_else(|| self.variable("HOME").map(|home| Path::new(home).join(".codex")))
    }

    /// Finds the file of a program as a shell does.
    pub(super) fn find_in_path(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            return Some(PathBuf::from(program)).filter(|path| path.is_file());
        }
        let path = self.variable("PATH").unwrap_or_default();
        std::env::split_paths(path).map(|dir| dir.join(program)).find(|path| path.is_file())
    }
}
