//! Where a command works and how it talks.

use std::path::PathBuf;
use std::time::Instant;

use super::args::Global;
use crate::config::Config;
use crate::exit::Failure;
use crate::project;
use crate::registry::Registry;
use crate::render::Output;

/// What every command needs.
#[derive(Debug)]
pub struct Context {
    /// The project root.
    pub root: PathBuf,
    /// The current folder.
    pub cwd: PathBuf,
    /// The project's registry.
    pub registry: Registry,
    /// The streams.
    pub output: Output,
    /// When the command began.
    pub began: Instant,
}

impl Context {
    /// Finds the project; nothing else is read.
    ///
    /// # Errors
    /// When there is no project here.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let began = Instant::now();
        let cwd = std::env::current_dir().map_err(|e| {
            Failure::usage(format!("the current folder can't be found ({e}): change to another"))
        })?;
        let root = project::find_root(global.root.as_deref(), &cwd)?;
        let registry = Registry::of(&root);
        Ok(Self { root, cwd, registry, output: Output::new(global.color, global.json), began })
    }

    /// Reads `platform/relay.toml`: on demand, since most commands answer without it.
    ///
    /// # Errors
    /// One line with file, line and reason.
    pub fn config(&self) -> Result<Config, Failure> {
        Config::load(&self.root)
    }
}
