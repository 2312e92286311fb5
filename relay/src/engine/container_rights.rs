//! Arguments of `run` that decide what a container may do: user, capabilities, limits, mounts. They depend on the engine.

use super::container::Container;
use super::engine_facts::EngineFacts;
use super::engine_info::Limit;
use super::syscall_filter::FILTER_ARGUMENTS;
use crate::config::{ResourceLimits, format_cpus};
use crate::engine_kind::EngineKind;

/// Capabilities that the agent and the entry point need to run workers as another user, to end them, and to access
/// their files.
const CAPABILITIES: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"];

impl Container<'_> {
    /// Returns the arguments of `run` with which both engines create the same container.
    fn engine_arguments(&self, facts: &EngineFacts) -> Vec<String> {
        let mut args = Vec::new();
        if self.engine == EngineKind::Podman {
            // Podman would pass the proxy variables of this machine, which may contain a password.
            args.push("--http-proxy=false");
        }
        if facts.filter.is_some() {
            args.extend(FILTER_ARGUMENTS);
        }
        if facts.info.shows_all_cgroups() {
            args.extend(["--security-opt", "mask=/sys/fs/cgroup"]);
        }
        if facts.needs_socket() {
            // The user keeps their own id, which is that of the workers, and root in the container is another user of this
            // machine. Without `--user`, the agent would be the user, too.
            args.extend(["--userns=keep-id", "--user=0:0"]);
        }
        args.into_iter().map(str::to_owned).collect()
    }

    /// Returns the arguments of `run` for rights and resources.
    pub(super) fn limit_arguments(&self, facts: &EngineFacts) -> Vec<String> {
        let ResourceLimits { memory, millicpus, pids, .. } = &self.platform.resources;
        let mut args = self.engine_arguments(facts);
        args.extend(["--security-opt", "no-new-privileges", "--cap-drop", "ALL"].map(str::to_owned));
        for capability in CAPABILITIES {
            args.extend(["--cap-add", capability].map(str::to_owned));
        }
        // An engine may refuse to create a container with a limit that it can't enforce.
        let info = &facts.info;
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
}
