//! Networks of containers, and boxes without one. The agent in such a box reaches the relay at a Unix socket in a folder
//! that is mounted, and the job reaches other hosts through the agent and the relay.
//!
//! With podman without root all agents use that socket, because its network does not reach the relay.
//!
//! An internal network of the engine would not do: a container in it reaches the services of this machine.

use super::container::{Container, DOCKER_HOST_NAME, is_missing_program};
use super::engine_facts::EngineFacts;
use crate::engine_kind::EngineKind;
use crate::time;

/// Name of the relay's socket in its folder.
pub const SOCKET_NAME: &str = "relay.sock";
/// Folder of the socket in a container.
const SOCKET_FOLDER: &str = "/run/relay";
/// File with the id of the running kernel's boot, which containers on the same machine share.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the path of the relay's socket in a container.
pub fn socket_path() -> String {
    format!("{SOCKET_FOLDER}/{SOCKET_NAME}")
}

impl Container<'_> {
    /// Returns the arguments of `run` for a container in the engine's default network.
    pub(super) fn network_arguments(&self, facts: &EngineFacts) -> Vec<String> {
        if facts.needs_socket() {
            return self.socket_arguments().into();
        }
        match self.engine {
            EngineKind::Podman => Vec::new(),
            _ => vec!["--add-host".to_owned(), format!("{DOCKER_HOST_NAME}:host-gateway")],
        }
    }

    /// Returns the arguments of `run` for a container without a network.
    pub(super) fn no_network_arguments(&self) -> Vec<String> {
        let none = ["--network", "none"].map(str::to_owned);
        none.into_iter().chain(self.socket_arguments()).collect()
    }

    fn socket_arguments(&self) -> [String; 2] {
        // A read-only mount permits connections, and keeps the container from replacing the socket. The mount is that of the
        // folder, because each relay makes another socket in it.
        ["--volume".to_owned(), format!("{}:{SOCKET_FOLDER}:ro", self.socket_folder.display())]
    }

    /// Returns the reason why a socket of this machine can't be used in containers of this engine, if there is one. The
    /// platform's container must be running.
    ///
    /// # Errors
    /// The engine does not answer, or the container does not run.
    pub fn no_network_obstacle(&self, facts: &EngineFacts) -> Result<Option<String>, String> {
        let Some(boot_id) = time::boot_id() else {
            return Ok(Some("the engine runs in a virtual machine".to_owned()));
        };
        if facts.info.has_selinux {
            return Ok(Some("SELinux keeps containers from sockets of this machine".to_owned()));
        }
        match self.query(&["exec", &self.platform.name, "cat", BOOT_ID_FILE]) {
            Ok(found) if found.trim() == boot_id.trim() => Ok(None),
            Ok(_) => Ok(Some("the engine runs on another machine".to_owned())),
            Err(e) if is_missing_program(&e) => {
                Ok(Some("can't tell where the engine runs: the image has no `cat`".to_owned()))
            }
            Err(e) => Err(e),
        }
    }
}
