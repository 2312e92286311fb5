//! `docker exec -d`, a peer of `relay launch`, in a container that only sleeps.

use std::process::Command;

use relay_tests::harness::docker::IMAGE;

use crate::{Fallible, setup};

/// Possible images of the container, which do not affect the cost of `docker exec`; the first that is present is used.
const IMAGES: [&str; 2] = [IMAGE, "debian:bookworm-slim"];

/// A running container, removed on drop.
pub(crate) struct Container {
    name: String,
}

impl Container {
    pub(crate) fn start() -> Fallible<Self> {
        if !setup::on_path("docker") {
            return Err("docker is not installed".into());
        }
        docker(&["version"])?;
        let is_present = |image: &&&str| docker(&["image", "inspect", image]).is_ok();
        let image =
            IMAGES.iter().find(is_present).ok_or_else(|| format!("neither image {IMAGES:?} is here"))?;
        let container = Self { name: format!("relay-figures-{}", std::process::id()) };
        let entry = ["--network", "none", "--entrypoint", "sleep", image, "100000"];
        docker(&[&["run", "-d", "--rm", "--init", "--name", &container.name][..], &entry].concat())?;
        Ok(container)
    }

    /// Returns a `docker exec -d` command for the container.
    pub(crate) fn exec(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", "-d", &self.name, "true"]);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "-f", &self.name]);
    }
}

fn docker(args: &[&str]) -> Fallible<()> {
    let output = Command::new("docker").args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("docker {}: {}", args[0], stderr.lines().last().unwrap_or_default()).into())
}
