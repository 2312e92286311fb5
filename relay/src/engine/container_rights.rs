//! Arguments of `run` that decide what a container may do: user, capabilities, limits, mounts. They depend on the engine.

use std::path::Path;

use super::container::Container;
use super::engine_info::{EngineInfo, Limit, PODMAN_INFO};
use super::syscall_filter::FILTER_ARGUMENTS;
use crate::config::{ResourceLimits, format_cpus};
use crate::engine_kind::EngineKind;

/// Capabilities that the agent and the entry point need to run workers as another user, to end them, and to access
/// their files.
const CAPABILITIES: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"];
/// Arguments with which Docker lists what protects its containers.
const DOCKER_SECURITY: [&str; 3] = ["info", "--format", "{{json .SecurityOptions}}"];

impl Container<'_> {
    /// Returns the arguments of `run` with which both engines create the same container.
    fn engine_arguments(&self) -> Vec<String> {
        let mut args = Vec::new();
        if self.engine == EngineKind::Podman {
            // Podman would pass the proxy variables of this machine, which may contain a password.
            args.push("--http-proxy=false");
        }
        if self.syscall_filter().is_some() {
            args.extend(FILTER_ARGUMENTS);
        }
        if self.info().shows_all_cgroups() {
            args.extend(["--security-opt", "mask=/sys/fs/cgroup"]);
        }
        if self.needs_socket() {
            // The user keeps their own id, which is that of the workers, and root in the container is another user of this
            // machine. Without `--user`, the agent would be the user, too.
            args.extend(["--userns=keep-id", "--user=0:0"]);
        }
        args.into_iter().map(str::to_owned).collect()
    }

    /// Returns the arguments of `run` for rights and resources.
    pub(super) fn limit_arguments(&self) -> Vec<String> {
        let ResourceLimits { memory, millicpus, pids, .. } = &self.platform.resources;
        let mut args = self.engine_arguments();
        args.extend(["--security-opt", "no-new-privileges", "--cap-drop", "ALL"].map(str::to_owned));
        for capability in CAPABILITIES {
            args.extend(["--cap-add", capability].map(str::to_owned));
        }
        // An engine may refuse to create a container with a limit that it can't enforce.
        let info = self.info();
        if info.enforces(Limit::Memory) {
            let memory = memory.to_string();
            args.extend(["--memory", &memory, "--memory-swap", &memory].map(str::to_owned));
        }
        if info.enforces(Limit::Pids) {
            args.extend(["--pids-limit".to_owned(), pids.to_string()]);
        }
        if let Some(millis) = millicpus.filter(|_| info.enforces(Limit::Cpus)) {
            args.extend(["--cpus".to_owned(), format_cpus(millis)]);
        }
        args
    }

    /// Returns the arguments of `run` that mount a folder of this machine.
    pub(super) fn mount_arguments(&self, folder: &Path, target: &str) -> [String; 2] {
        ["--volume".to_owned(), format!("{}:{target}{}", folder.display(), self.selinux_mount_option())]
    }

    /// Returns the mount option that lets a container use a folder of the host under `SELinux`.
    pub(super) fn selinux_mount_option(&self) -> &'static str {
        if self.info().has_selinux { ":z" } else { "" }
    }

    /// Returns facts about the engine, which are queried once.
    pub(super) fn info(&self) -> EngineInfo {
        match self.engine {
            EngineKind::Podman => self.podman_info().unwrap_or_default(),
            _ => self.engine_info.get_or_init(|| self.query_docker_info()).clone(),
        }
    }

    /// Returns facts about podman. If it does not answer, the next call tries again: without them, the container of a user
    /// without root would be of no use.
    fn podman_info(&self) -> Option<EngineInfo> {
        if self.engine_info.get().is_none() {
            let found = EngineInfo::parse_podman(&self.query(&PODMAN_INFO).ok()?)?;
            return Some(self.engine_info.get_or_init(|| found).clone());
        }
        self.engine_info.get().cloned()
    }

    fn query_docker_info(&self) -> EngineInfo {
        let options = self.query(&DOCKER_SECURITY).unwrap_or_default();
        EngineInfo::of_docker(&options)
    }
}
