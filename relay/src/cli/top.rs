//! The command `relay top`.

use std::io::{self, IsTerminal};

use clap::Args;

use super::Context;
use super::help::after_help;
use crate::exit::{ExitCode, Failure};
use crate::top::{self, Options};

/// Flags of `relay top`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay top", "relay top --root ~/src/demo"]))]
pub struct TopArgs {}

/// Shows every worker on a live screen until the user quits.
///
/// # Errors
/// Exit code 2 without a terminal, 5 if the terminal fails.
pub fn run(_: &TopArgs, context: &Context) -> Result<ExitCode, Failure> {
    if context.output.json || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("top needs a terminal: use `relay status`"));
    }
    let grace_ms = context.read_config()?.limits.grace_ms;
    let options = Options { registry: context.registry.clone(), paint: context.output.paint, grace_ms };
    top::run(&options).map_err(|e| Failure::unreachable(format!("the terminal can't be used: {e}")))?;
    Ok(ExitCode::Done)
}
