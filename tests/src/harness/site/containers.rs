//! Containers of a site.

use std::process::Command;

use super::Site;
use crate::harness::podman_user::PodmanUser;
use crate::harness::until_engine;

impl Site {
    /// Returns the name of the site's container.
    pub fn container(&self) -> String {
        let name = self.root().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        format!("relay-test-{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
    }

    /// Returns the command of the site's engine, ready to run.
    pub fn engine_command(&self) -> Command {
        self.user.as_ref().map_or_else(|| Command::new(self.engine.name()), PodmanUser::podman)
    }

    /// Returns the names of the containers of single jobs, also of those that do not run.
    pub fn boxes(&self) -> Vec<String> {
        let registry = format!("label=relay.registry={}", self.registry().display());
        let args =
            ["ps", "-a", "--filter", &registry, "--filter", "label=relay.job", "--format", "{{.Names}}"];
        let listed = self.engine_command().args(args).output();
        let listed = listed.unwrap_or_else(|e| panic!("{}: {e}", self.engine.name()));
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
    }

    /// Waits until a job has a container of its own, and returns its name.
    pub fn box_of(&self, job: &str) -> String {
        let part = format!("-{}-", job.replace('#', "."));
        until_engine(&format!("{job} has a container"), || {
            self.boxes().into_iter().find(|name| name.contains(&part))
        })
    }

    /// Waits until no container of a single job is left.
    pub fn wait_for_no_box(&self) {
        until_engine("no container of a job is left", || self.boxes().is_empty().then_some(()));
    }
}
