//! Project, caller and output of a command.

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
use crate::render::Output;
use crate::sandbox;

/// Context of a command.
#[derive(Debug)]
pub struct Context {
    /// Root of the project.
    pub root: PathBuf,
    /// Current folder.
    pub cwd: PathBuf,
    /// Registry of the project.
    pub registry: Registry,
    /// Output streams.
    pub output: Output,
    /// Start time of the command.
    pub began: Instant,
    /// Environment variables passed by the caller. They take precedence over those of this process.
    caller: BTreeMap<&'static str, String>,
    /// True if a host agent called the command as a tool.
    is_tool: bool,
}

impl Context {
    /// Finds the project; reads nothing else.
    ///
    /// # Errors
    /// Exit code 2 if there is no project here.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        Self::with(global, Output::new(global.color, global.json), BTreeMap::new(), false)
    }

    /// As [`Context::new`], for a caller in another process that passes variables of its environment. Its output is
    /// collected in `output`.
    ///
    /// # Errors
    /// Exit code 2 if there is no project here.
    pub fn for_tool(global: &Global, caller: BTreeMap<&'static str, String>) -> Result<Self, Failure> {
        Self::with(global, Output::captured(), caller, true)
    }

    fn with(
        global: &Global,
        output: Output,
        caller: BTreeMap<&'static str, String>,
        is_tool: bool,
    ) -> Result<Self, Failure> {
        let began = Instant::now();
        let cwd = std::env::current_dir().map_err(|e| {
            Failure::usage(format!("the current folder can't be found ({e}): change to another"))
        })?;
        let root = project::find_root(global.project().as_deref(), &cwd)?;
        let registry = Registry::for_project(&root);
        Ok(Self { root, cwd, registry, output, began, caller, is_tool })
    }

    /// Returns a variable of the caller's environment.
    pub fn variable(&self, key: &str) -> Result<String, VarError> {
        self.caller.get(key).map_or_else(|| std::env::var(key), |value| Ok(value.clone()))
    }

    /// Returns the party that called.
    pub fn initiator(&self) -> Initiator {
        let is_session = self.is_tool || session::session(&|key| self.variable(key)).is_some();
        if is_session || ancestry::is_below_host_agent() { Initiator::Session } else { Initiator::Person }
    }

    /// Rejects a command that does not work inside a sandbox, and names the way to run it.
    ///
    /// # Errors
    /// Exit code 5 inside a sandbox.
    pub fn outside_of_sandboxes(&self, command: &str) -> Result<(), Failure> {
        match sandbox::current_sandbox() {
            Some(sandbox) => Err(Failure::unreachable(sandbox.refuses(command, &self.root))),
            None => Ok(()),
        }
    }

    /// Reads `platform/relay.toml`: on demand, since most commands do not need it.
    ///
    /// # Errors
    /// One line with file, line and reason.
    pub fn config(&self) -> Result<Config, Failure> {
        Config::load(&self.root)
    }
}
