//! The context of a command: its project, its caller and its output.

use std::collections::BTreeMap;
use std::env::VarError;
use std::path::PathBuf;
use std::time::Instant;

use super::global::Global;
use super::session;
use crate::ancestry;
use crate::approval::Initiator;
use crate::config::Config;
use crate::exit::Failure;
use crate::project;
use crate::registry::Registry;
use crate::render::CommandOutput;
use crate::sandbox;

/// Context in which one command runs.
#[derive(Debug)]
pub struct Context {
    /// Root of the project.
    pub root: PathBuf,
    /// Current folder.
    pub cwd: PathBuf,
    /// Registry of the project.
    pub registry: Registry,
    /// Output streams.
    pub output: CommandOutput,
    /// Start time of the command.
    pub started_at: Instant,
    /// Environment variables passed by the caller. They take precedence over the environment of this process.
    caller_env: BTreeMap<&'static str, String>,
    /// True if a host agent called the command as a tool.
    is_tool: bool,
}

impl Context {
    /// Creates the context. Finds the project, and reads nothing of it.
    ///
    /// # Errors
    /// Exit code 2 if there is no project here.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        Self::with_output(global, CommandOutput::new(global.color, global.json), BTreeMap::new(), false)
    }

    /// Same as [`Context::new`], for a caller in another process that passes its environment variables. The output is
    /// collected in `output`.
    ///
    /// # Errors
    /// Exit code 2 if there is no project here.
    pub fn for_tool(global: &Global, caller: BTreeMap<&'static str, String>) -> Result<Self, Failure> {
        Self::with_output(global, CommandOutput::captured(), caller, true)
    }

    fn with_output(
        global: &Global,
        output: CommandOutput,
        caller: BTreeMap<&'static str, String>,
        is_tool: bool,
    ) -> Result<Self, Failure> {
        let started_at = Instant::now();
        let cwd = std::env::current_dir().map_err(|e| {
            Failure::usage(format!("the current folder can't be found ({e}): change to another"))
        })?;
        let root = project::find_root(global.project_root().as_deref(), &cwd)?;
        let registry = Registry::for_project(&root);
        Ok(Self { root, cwd, registry, output, started_at, caller_env: caller, is_tool })
    }

    /// Returns a variable of the caller's environment.
    pub fn caller_variable(&self, key: &str) -> Result<String, VarError> {
        self.caller_env.get(key).map_or_else(|| std::env::var(key), |value| Ok(value.clone()))
    }

    /// Returns who called the command: a person, or a session of a host agent.
    pub fn initiator(&self) -> Initiator {
        let is_session = self.is_tool || session::calling_session(&|key| self.caller_variable(key)).is_some();
        if is_session || ancestry::is_below_host_agent() { Initiator::Session } else { Initiator::Person }
    }

    /// Rejects a command that does not work inside a sandbox, with advice on how to run it.
    ///
    /// # Errors
    /// Exit code 5 inside a sandbox.
    pub fn require_no_sandbox(&self, command: &str) -> Result<(), Failure> {
        match sandbox::current_sandbox() {
            Some(sandbox) => Err(Failure::unreachable(sandbox.refusal_message(command, &self.root))),
            None => Ok(()),
        }
    }

    /// Reads `platform/relay.toml`. Called on demand, since most commands do not need it.
    ///
    /// # Errors
    /// A one-line message with file, line and reason.
    pub fn read_config(&self) -> Result<Config, Failure> {
        Config::load(&self.root)
    }
}
