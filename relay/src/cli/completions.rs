//! `relay completions SHELL`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::args::{Cli, Global};
use crate::exit::{Code, Failure};
use crate::render::Output;

/// Flags of `relay completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout can't be written.
pub fn run(args: &CompletionsArgs, global: &Global) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "relay", &mut script);
    let output = Output::new(global.color, false);
    output.raw(&script);
    output.finish().map(|()| Code::Done)
}
