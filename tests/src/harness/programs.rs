//! The programs under test, and the real Codex.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Environment variable with a folder of prebuilt `relay` and `worker-agent`.
pub const BIN_DIR: &str = "RELAY_TEST_BIN_DIR";

/// Returns the folder with `relay` and `worker-agent`. Builds them first unless [`BIN_DIR`] is set.
pub fn dir() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = env::var_os(BIN_DIR) {
            return dir.into();
        }
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "relay", "-p", "worker-agent"])
            .current_dir(workspace())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "relay and worker-agent can't be built");
        // The program of a test is in TARGET/debug/deps.
        let test_program = env::current_exe().unwrap_or_default();
        test_program.ancestors().nth(2).map(PathBuf::from).unwrap_or_default()
    })
}

/// Returns the path of the real Claude Code: `RELAY_TEST_CLAUDE` if it is set, otherwise the one that `tests/run.sh` has
/// installed.
pub fn claude() -> PathBuf {
    let installed = "target/claude/node_modules/@anthropic-ai/claude-code-linux-x64/claude";
    let claude = env::var_os("RELAY_TEST_CLAUDE").map_or_else(|| workspace().join(installed), PathBuf::from);
    assert!(claude.is_file(), "{} is missing: run ./tests/run.sh", claude.display());
    claude
}

/// Returns the root of the repository.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the path of the real Codex: `RELAY_TEST_CODEX` if it is set, otherwise the `codex` on `PATH`.
pub fn codex() -> PathBuf {
    if let Some(codex) = env::var_os("RELAY_TEST_CODEX") {
        return codex.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join("codex")).find(|codex| codex.is_file());
    assert!(found.is_some(), "no codex on PATH and RELAY_TEST_CODEX is not set: run ./tests/run.sh");
    found.unwrap_or_default()
}
