//! Commands in Codex's sandbox, as Codex runs the commands of a model.

use std::path::Path;
use std::process::{Command, Output};

use super::{Site, programs};

/// Settings of a sandbox, as arguments of `codex sandbox`: the workspace is writable, sockets are refused.
pub const WORKSPACE_WRITE: [&str; 2] = ["-c", "sandbox_mode=\"workspace-write\""];

/// Returns a `codex sandbox` command that runs a bash script in `cwd`, with these settings and with `relay` on the
/// PATH. Creates the site's `CODEX_HOME`, because Codex requires it.
pub fn command(site: &Site, cwd: &Path, settings: &[&str], script: &str) -> Command {
    let _ = std::fs::create_dir_all(site.codex_home());
    let mut command = with_environment_of(&site.command(&[]), &programs::codex().to_string_lossy());
    command.arg("sandbox").args(settings).args(["--", "bash", "-c", script]).current_dir(cwd);
    command
}

/// Runs a bash script in the sandbox, in the project's root.
pub fn run(site: &Site, settings: &[&str], script: &str) -> Output {
    let mut command = command(site, site.root(), settings, script);
    command.output().unwrap_or_else(|e| panic!("codex sandbox: {e}"))
}

/// Runs a bash script in the sandbox, in the project's root. It must succeed; returns its stdout.
pub fn stdout(site: &Site, script: &str) -> String {
    let output = run(site, &WORKSPACE_WRITE, script);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{stdout}{stderr}\n{}", site.daemon_log());
    stdout
}

/// Returns a command that runs `program` with the environment of `other`, and with the programs under test on the PATH.
pub fn with_environment_of(other: &Command, program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [programs::dir().clone()].into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).unwrap_or(path.clone()));
    command
}
