//! Calls of the real podman.

use std::process::{Command, ExitStatus, Stdio};

use super::docker;
use super::podman_user::PodmanUser;

/// Base image for `relay up --build` in podman, which [`build_base_image`] makes.
pub const BASE_IMAGE: &str = "localhost/relay-test-podman-base:1";

/// Writes the files of the platform image to stdout as a base image: without the workers' user and large packages, and
/// with stubs instead of the programs that download packages. So the build needs seconds and no network. Its arguments
/// are for `tar`.
const WRITE_BASE: &str = r#"set -e
sed -i /^worker/d /etc/passwd /etc/group /etc/shadow /etc/gshadow
stub() { mkdir -p "${1%/*}"; printf '#!/bin/sh\n%s\n' "$2" >"$1"; chmod 755 "$1"; }
stub /usr/local/lib/node_modules/@openai/stub/vendor/stub/bin/codex 'echo codex-cli 0.0.0'
for program in apt-get npm update-ca-certificates; do stub /usr/local/bin/$program; done
exec tar -c -C / --one-file-system --exclude=./home/worker --exclude=./usr/include --exclude=./usr/lib/gcc \
    --exclude='./usr/lib/*/libicu*' --exclude='./usr/lib/*/libnode*' \
    --exclude=./usr/local/lib/node_modules/@openai/codex \
    --exclude=./usr/share/doc --exclude=./usr/share/locale --exclude='./usr/share/node*' --exclude=./var/cache "$@" .
"#;
/// Arguments with which [`WRITE_BASE`] leaves Python out.
const WITHOUT_PYTHON: [&str; 2] = ["--exclude=./usr/lib/python3*", "--exclude=./usr/local/lib/python3*"];
/// Arguments with which [`WRITE_BASE`] leaves out what Python programs rarely need.
const WITH_PYTHON: [&str; 1] = ["--exclude=./usr/lib/python3/dist-packages"];

/// Runs a `podman` command that must succeed, and returns its stdout.
pub fn podman(args: &[&str]) -> String {
    let output = Command::new("podman").args(args).output();
    let output = output.unwrap_or_else(|e| panic!("podman can't be run ({e}): run ./tests/run.sh"));
    assert!(output.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes [`BASE_IMAGE`] from the platform image of the Docker tests.
pub fn build_base_image() {
    import_base_image(Command::new("podman"), &WITHOUT_PYTHON);
}

/// Makes [`BASE_IMAGE`] with Python for podman without root.
pub fn build_base_image_with_python(user: Option<&PodmanUser>) {
    import_base_image(user.map_or_else(|| Command::new("podman"), PodmanUser::podman), &WITH_PYTHON);
}

fn import_base_image(mut podman: Command, tar_arguments: &[&str]) {
    let image = docker::image();
    let mut write = Command::new("docker");
    write.args(["run", "--rm", "--network", "none", "--entrypoint", "sh", &image, "-c", WRITE_BASE, "sh"]);
    let write = write.args(tar_arguments).stdout(Stdio::piped()).spawn();
    let mut write = write.unwrap_or_else(|e| panic!("docker run: {e}"));
    let archive = write.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let imported = podman.args(["import", "--quiet", "-", BASE_IMAGE]).stdin(archive).output();
    // Closes the pipe: if podman has failed, the other command must not wait for it.
    drop(podman);
    let written = write.wait();
    assert!(written.as_ref().is_ok_and(ExitStatus::success), "docker run {image}: {written:?}");
    assert!(imported.as_ref().is_ok_and(|output| output.status.success()), "podman import: {imported:?}");
}
