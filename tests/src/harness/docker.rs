//! Calls of the real Docker engine.

use std::env;
use std::process::Command;

use crate::harness::until_engine;

/// Image that `tests/run.sh` builds through `relay up --build`.
pub const IMAGE: &str = "relay-platform:test";

/// Returns the image that the tests use: `RELAY_TEST_IMAGE` if set, otherwise [`IMAGE`].
pub fn image() -> String {
    env::var("RELAY_TEST_IMAGE").unwrap_or_else(|_| IMAGE.to_owned())
}

/// Runs a `docker` command that must succeed, and returns its stdout.
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output();
    let output = output.unwrap_or_else(|e| panic!("docker can't be run ({e}): run ./tests/run.sh"));
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Pauses a container. Tries again if the kernel can't freeze processes that are just starting in it.
pub fn pause(container: &str) {
    until_engine(&format!("the engine pauses {container}"), || {
        let output = Command::new("docker").args(["pause", container]).output();
        let output = output.unwrap_or_else(|e| panic!("docker pause: {e}"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() || stderr.contains("unable to freeze"),
            "docker pause {container}: {stderr}"
        );
        output.status.success().then_some(())
    });
}

/// Returns the volumes of a site's container; `engine` is the command of its engine.
pub fn volumes(mut engine: Command, container: &str) -> Vec<String> {
    let filter = format!("name={container}-");
    let listed = engine.args(["volume", "ls", "-q", "--filter", &filter]).output();
    let listed =
        listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

/// Runs a `docker` command and ignores failures.
pub fn docker_may_fail(args: &[&str]) {
    let _ = Command::new("docker").args(args).output();
}

/// Returns the address at which containers reach this host: the address of the default bridge.
pub fn gateway() -> String {
    // The address is read from the kernel, because the engine may not report it before the first container runs.
    let output = Command::new("ip").args(["-4", "-o", "addr", "show", "dev", "docker0"]).output();
    let shown = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let address = shown.split_whitespace().skip_while(|word| *word != "inet").nth(1);
    let address = address.and_then(|address| address.split('/').next());
    address.unwrap_or_else(|| panic!("no docker0 with an address: {shown:?}")).to_owned()
}
