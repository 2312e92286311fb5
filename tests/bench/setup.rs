//! Preparation of the benchmarks: builds the release programs and sets the environment variables that the harness
//! needs.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use relay_tests::harness::programs;

use crate::Fallible;

/// Environment variable with the path of the real Codex, for the harness.
const CODEX_VARIABLE: &str = "RELAY_TEST_CODEX";

/// Does nothing if the environment has all variables that the harness needs. Otherwise builds the release programs, if
/// necessary, and executes this program again with the missing variables.
pub(crate) fn prepare() -> Fallible<()> {
    let mut missing: Vec<(&str, PathBuf)> = Vec::new();
    if env::var_os(programs::BIN_DIR).is_none() {
        missing.push((programs::BIN_DIR, build_programs()?));
    }
    if env::var_os(CODEX_VARIABLE).is_none() && !on_path("codex") {
        missing.extend(installed_codex().map(|codex| (CODEX_VARIABLE, codex)));
    }
    if missing.is_empty() {
        return Ok(());
    }
    // A process must not change its own environment, which other threads read.
    Err(Command::new(env::current_exe()?).args(env::args_os().skip(1)).envs(missing).exec().into())
}

/// Builds the release programs; returns their folder.
fn build_programs() -> Fallible<PathBuf> {
    let root = programs::workspace().canonicalize()?;
    crate::say("building the release programs");
    // The script writes the programs into the repository's own target folder.
    let status = Command::new(root.join("docker/build.sh")).env_remove("CARGO_TARGET_DIR").status()?;
    if status.success() {
        Ok(root.join("target/release"))
    } else {
        Err(format!("docker/build.sh: {status}").into())
    }
}

/// Returns the path of the Codex that `tests/run.sh` has installed, if there is one.
fn installed_codex() -> Option<PathBuf> {
    let find = r#". "$0/tests/lib.sh" && codex_binary "$0/target/codex""#;
    let output = Command::new("bash").args(["-c", find]).arg(programs::workspace()).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !path.trim().is_empty()).then(|| path.trim().into())
}

/// Returns true if a program is on `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Returns one line about the machine: version of relay, kernel, number of cores and current load.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("relay {}, Linux {}, {cores} cores, load {load}", env!("CARGO_PKG_VERSION"), kernel.trim())
}
