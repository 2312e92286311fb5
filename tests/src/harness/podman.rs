//! Calls of the real podman.

use std::process::{Command, ExitStatus, Stdio};

use super::docker;

/// Base image for `relay up --build` in podman, which [`build_base_image`] makes.
pub const BASE_IMAGE: &str = "localhost/relay-test-podman-base:1";

/// Writes the files of the platform image to stdout as a base image: without the workers' user and large packages, and
/// with stubs instead of the programs that download packages. So the build needs seconds and no network.
const WRITE_BASE: &str = r#"set -e
sed -i /^worker/d /etc/passwd /etc/group /etc/shadow /etc/gshadow
stub() { mkdir -p "${1%/*}"; printf '#!/bin/sh\n%s\n' "$2" >"$1"; chmod 755 "$1"; }
stub /usr/local/lib/node_modules/@openai/stub/vendor/stub/bin/codex 'echo codex-cli 0.0.0'
for program in apt-get npm update-ca-certificates; do stub /usr/local/bin/$program; done
exec tar -c -C / --one-file-system --exclude=./home/worker --exclude=./usr/include --exclude=./usr/lib/gcc \
    --exclude='./usr/lib/python3*' --exclude='./usr/lib/*/libicu*' --exclude='./usr/lib/*/libnode*' \
    --exclude=./usr/local/lib/node_modules/@openai/codex --exclude='./usr/local/lib/python3*' \
    --exclude=./usr/share/doc --exclude=./usr/share/locale --exclude='./usr/share/node*' --exclude=./var/cache .
"#;

/// Runs a `podman` command that must succeed, and returns its stdout.
pub fn podman(args: &[&str]) -> String {
    let output = Command::new("podman").args(args).output();
    let output = output.unwrap_or_else(|e| panic!("podman can't be run ({e}): run ./tests/run.sh"));
    assert!(output.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes [`BASE_IMAGE`] from the platform image of the Docker tests.
pub fn build_base_image() {
    let image = docker::image();
    let mut write = Command::new("docker");
    write.args(["run", "--rm", "--network", "none", "--entrypoint", "sh", &image, "-c", WRITE_BASE]);
    let mut write = write.stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("docker run: {e}"));
    let archive = write.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let imported =
        Command::new("podman").args(["import", "--quiet", "-", BASE_IMAGE]).stdin(archive).output();
    let written = write.wait();
    assert!(written.as_ref().is_ok_and(ExitStatus::success), "docker run {image}: {written:?}");
    assert!(imported.as_ref().is_ok_and(|output| output.status.success()), "podman import: {imported:?}");
}
