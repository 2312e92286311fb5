//! Running the programs that an engine is made of.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::EngineKind;

/// The agent's program.
const AGENT: &str = "worker-agent";

/// The agent's program: the one beside this program, else on `PATH`.
///
/// # Errors
/// One line that says where it was looked for.
pub fn agent_program() -> Result<PathBuf, String> {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name(AGENT));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|dir| dir.join(AGENT)))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("{AGENT} was found neither beside relay nor on PATH: install it there"))
}

/// Runs a command with `input` on its stdin.
///
/// # Errors
/// The command's last words when it fails.
pub fn feed(command: &mut Command, input: &[u8]) -> io::Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ends early says why on stderr, which is worth more than the broken pipe.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(last_line(&output.stderr)))
}

/// The last line that a command printed, cleaned.
pub fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    common::text::one_line(line, 400)
}

/// What a command printed, without the line break at its end.
///
/// # Errors
/// The command's last words when it fails.
pub fn output(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(io::Error::other(last_line(&output.stderr)))
}

/// The message for an engine whose command can't be run.
pub fn not_installed(engine: EngineKind, error: &io::Error) -> String {
    format!("the command {engine} can't be run ({error}): install it, or use `relay up --engine local`")
}
