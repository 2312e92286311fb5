//! The flags of every command.

use std::path::PathBuf;

use clap::Args;

use crate::render::ColorMode;

/// Heading of the global flags.
const GLOBAL_HEADING: &str = "Global options";

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Project folder [default: `RELAY_ROOT`, else the nearest parent with platform/relay.toml, else the git root]
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL_HEADING)]
    pub root: Option<PathBuf>,
    /// When to use colors: auto (on a terminal, unless `NO_COLOR` is set), always or never
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorMode::Auto, hide_default_value = true, hide_possible_values = true, help_heading = GLOBAL_HEADING)]
    pub color: ColorMode,
    /// Print JSON, one value per line
    #[arg(long, global = true, help_heading = GLOBAL_HEADING)]
    pub json: bool,
}

impl Global {
    /// Returns the project named by the flag, else by the environment.
    pub fn project_root(&self) -> Option<PathBuf> {
        self.root.clone().or_else(project_from_environment)
    }
}

/// Returns the project named by `RELAY_ROOT`. An empty value counts as unset.
pub(super) fn project_from_environment() -> Option<PathBuf> {
    std::env::var_os("RELAY_ROOT").filter(|root| !root.is_empty()).map(PathBuf::from)
}
