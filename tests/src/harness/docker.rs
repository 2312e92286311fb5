//! The real Docker engine.

use std::process::Command;

/// The image that the tests use. `tests/run.sh` builds it through `relay up --build`.
pub const IMAGE: &str = "relay-platform:test";

/// Runs `docker` and returns what it printed.
///
/// # Panics
/// When it fails: there is no test here that could pass without an engine.
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output();
    let output = output.unwrap_or_else(|e| panic!("docker can't be run ({e}): run ./tests/run.sh"));
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The address of this host as containers see it.
///
/// # Panics
/// When no engine answers.
pub fn gateway() -> String {
    docker(&["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"])
}
