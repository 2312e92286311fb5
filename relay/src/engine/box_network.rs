//! Networks of containers, and boxes without one. The agent in such a box reaches the relay at a Unix socket in a folder
//! that is mounted, and the job reaches other hosts through the agent and the relay.
//!
//! An internal network of the engine would not do: a container in it reaches the services of this machine.

use std::path::Path;

use super::container::{Container, DOCKER_HOST_NAME, is_missing_program};
use crate::engine_kind::EngineKind;
use crate::time;

/// Name of the relay's socket in its folder.
pub const SOCKET_NAME: &str = "relay.sock";
/// Folder of the socket in a box.
const SOCKET_FOLDER: &str = "/run/relay";
/// File with the id of the running kernel's boot, which containers on the same machine share.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the path of the relay's socket in a box.
pub fn socket_path() -> String {
    format!("{SOCKET_FOLDER}/{SOCKET_NAME}")
}

/// Returns the engine's arguments for a box without a network.
pub(super) fn no_network_arguments(socket_folder: &Path) -> [String; 4] {
    // A read-only mount permits connections, and keeps the box from replacing the socket.
    let volume = format!("{}:{SOCKET_FOLDER}:ro", socket_folder.display());
    ["--network".to_owned(), "none".to_owned(), "--volume".to_owned(), volume]
}

impl Container<'_> {
    /// Returns the arguments of `run` for a container in the engine's default network, which reaches this machine.
    pub(super) fn network_arguments(&self) -> Vec<String> {
        match self.engine {
            EngineKind::Podman => Vec::new(),
            _ => vec!["--add-host".to_owned(), format!("{DOCKER_HOST_NAME}:host-gateway")],
        }
    }

    /// Returns the reason why a socket of this machine can't be used in containers of this engine, if there is one. The
    /// platform's container must be running.
    ///
    /// # Errors
    /// The engine does not answer, or the container does not run.
    pub fn no_network_obstacle(&self) -> Result<Option<String>, String> {
        let Some(boot_id) = time::boot_id() else {
            return Ok(Some("the engine runs in a virtual machine".to_owned()));
        };
        if !self.selinux_mount_option().is_empty() {
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
