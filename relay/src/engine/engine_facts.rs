//! Facts that decide how an engine creates containers: those about the engine, and the filter of system calls.

use std::path::Path;
use std::time::Duration;

use common::job::Sandbox;

use super::command::{ACTION_TIMEOUT, query};
use super::engine_info::{EngineInfo, PODMAN_INFO};
use super::syscall_filter::restricted_filter;
use crate::engine_kind::EngineKind;

/// Arguments with which Docker lists what protects its containers.
const DOCKER_SECURITY: [&str; 3] = ["info", "--format", "{{json .SecurityOptions}}"];
/// Time limit for podman without root to create the first container of an image: it copies the image's files, because
/// their owners differ in the container.
const MAPPING_TIMEOUT: Duration = Duration::from_secs(80);

/// Facts that decide how an engine creates containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    pub(super) info: EngineInfo,
    /// Filter of system calls for podman's containers; `None` for another engine, and if podman's own can't be restricted.
    pub(super) filter: Option<Vec<u8>>,
}

impl EngineFacts {
    /// Queries the facts.
    ///
    /// # Errors
    /// Podman does not answer. Without them, its containers would lack protections, or be of no use.
    pub fn query(engine: EngineKind, sandbox: Sandbox) -> Result<Self, String> {
        if engine == EngineKind::Podman {
            return Self::of_podman(query(engine, &PODMAN_INFO), sandbox);
        }
        // A `docker` that runs podman can't answer this.
        let options = query(engine, &DOCKER_SECURITY).unwrap_or_default();
        Ok(Self { info: EngineInfo::of_docker(&options), filter: None })
    }

    /// Returns the facts in podman's answer to [`PODMAN_INFO`].
    fn of_podman(answer: Result<String, String>, sandbox: Sandbox) -> Result<Self, String> {
        let answer = answer.map_err(|reason| format!("podman info does not answer: {reason}"))?;
        let info = EngineInfo::parse_podman(&answer).ok_or("the answer of podman info can't be read")?;
        let filter = restricted_filter(&info, sandbox)
            .inspect_err(|reason| tracing::warn!("workers can create namespaces: {reason}"));
        Ok(Self { info, filter: filter.ok() })
    }

    /// Returns true if a container in the engine's default network reaches the relay at its socket alone.
    pub fn needs_socket(&self) -> bool {
        self.info.is_rootless
    }

    /// Returns the time limit to create a container.
    pub(super) fn create_limit(&self) -> Duration {
        if self.info.is_rootless { MAPPING_TIMEOUT } else { ACTION_TIMEOUT }
    }

    /// Returns what the command that creates a container reads from stdin.
    pub(super) fn create_input(&self) -> &[u8] {
        self.filter.as_deref().unwrap_or_default()
    }

    /// Returns the arguments of `run` that mount a folder of this machine.
    pub(super) fn mount_arguments(&self, folder: &Path, target: &str) -> [String; 2] {
        // Under SELinux, this option lets the container use the folder.
        let option = if self.info.has_selinux { ":z" } else { "" };
        ["--volume".to_owned(), format!("{}:{target}{option}", folder.display())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_that_does_not_describe_itself_is_an_error_and_not_one_with_defaults() {
        let refused = EngineFacts::of_podman(Err("no answer within 15 s".to_owned()), Sandbox::Off);
        assert_eq!(refused, Err("podman info does not answer: no answer within 15 s".to_owned()));
        let unknown = EngineFacts::of_podman(Ok("podman".to_owned()), Sandbox::Off);
        assert!(unknown.unwrap_err().contains("can't be read"));
    }

    #[test]
    fn podman_without_a_filter_on_this_machine_creates_containers_without_one() {
        let answer = r#"{"host": {"security": {"seccompEnabled": true, "seccompProfilePath": ""}}}"#;
        let facts = EngineFacts::of_podman(Ok(answer.to_owned()), Sandbox::Off).unwrap();
        assert_eq!((facts.filter.as_deref(), facts.create_limit()), (None, ACTION_TIMEOUT));
    }
}
