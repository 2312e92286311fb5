//! Facts about an engine that decide how it creates containers.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::ResourceLimits;

/// Arguments with which podman describes itself.
pub const PODMAN_INFO: [&str; 3] = ["info", "--format", "json"];

/// Facts about an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// True if `SELinux` keeps containers from unlabeled files of this machine, and from its sockets.
    pub has_selinux: bool,
    /// True for podman without root on this machine. It can give a container the user's own id, and it keeps a container
    /// from this machine's loopback address.
    pub is_rootless: bool,
    /// Podman's own filter of system calls, if that file is on this machine.
    pub(super) seccomp_profile: Option<PathBuf>,
    /// Control groups of podman without root; `None` for engines that enforce every limit.
    cgroups: Option<Cgroups>,
}

/// Control groups of podman without root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cgroups {
    /// `v1` or `v2`.
    version: String,
    /// Controllers that the user may use.
    controllers: Vec<String>,
}

/// Answer to [`PODMAN_INFO`].
#[derive(Deserialize)]
struct PodmanInfo {
    host: Host,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Host {
    cgroup_version: String,
    cgroup_controllers: Option<Vec<String>>,
    security: Security,
    service_is_remote: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Security {
    rootless: bool,
    #[serde(rename = "selinuxEnabled")]
    selinux_enabled: bool,
    #[serde(rename = "seccompEnabled")]
    seccomp_enabled: bool,
    #[serde(rename = "seccompProfilePath")]
    seccomp_profile: PathBuf,
}

/// A limit of a container, named as in `[platform]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Memory,
    Cpus,
    Pids,
}

impl Limit {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpus, Self::Pids];

    /// Returns the name of the setting, and that of the controller that enforces it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Memory => ("memory", "memory"),
            Self::Cpus => ("cpus", "cpu"),
            Self::Pids => ("pids", "pids"),
        }
    }
}

impl EngineInfo {
    /// Parses podman's answer to [`PODMAN_INFO`].
    pub fn parse_podman(answer: &str) -> Option<Self> {
        let PodmanInfo { host } = serde_json::from_str(answer).ok()?;
        let has_filter = host.security.seccomp_enabled && host.security.seccomp_profile.is_absolute();
        let cgroups = Cgroups {
            version: host.cgroup_version,
            controllers: host.cgroup_controllers.unwrap_or_default(),
        };
        Some(Self {
            has_selinux: host.security.selinux_enabled,
            // Elsewhere podman runs in a virtual machine, whose network forwards to the loopback address.
            is_rootless: host.security.rootless && !host.service_is_remote && cfg!(target_os = "linux"),
            cgroups: host.security.rootless.then_some(cgroups),
            seccomp_profile: (has_filter && !host.service_is_remote).then_some(host.security.seccomp_profile),
        })
    }

    /// Returns the facts about a Docker engine with these security options.
    pub(super) fn of_docker(security_options: &str) -> Self {
        Self { has_selinux: security_options.contains("selinux"), ..Self::default() }
    }

    /// Returns true if the engine enforces a limit.
    pub fn enforces(&self, limit: Limit) -> bool {
        let (_, controller) = limit.names();
        self.cgroups.as_ref().is_none_or(|cgroups| cgroups.controllers.iter().any(|name| name == controller))
    }

    /// Returns true if a container would see the control groups of the whole machine.
    pub(super) fn shows_all_cgroups(&self) -> bool {
        self.cgroups.as_ref().is_some_and(|cgroups| cgroups.version == "v1")
    }

    /// Describes the limits in `resources` that the engine does not enforce, and how to get them; `None` if it enforces
    /// all of them.
    pub fn describe_missing_limits(&self, resources: &ResourceLimits) -> Option<(String, &'static str)> {
        let Cgroups { version, .. } = self.cgroups.as_ref()?;
        let is_missing = |limit: &Limit| {
            !self.enforces(*limit) && (*limit != Limit::Cpus || resources.millicpus.is_some())
        };
        let missing: Vec<_> =
            Limit::ALL.into_iter().filter(is_missing).map(|limit| limit.names().0).collect();
        if missing.is_empty() {
            return None;
        }
        let detail = format!(
            "not enforced by podman without root on this machine: {} (cgroup {version})",
            missing.join(", ")
        );
        let fix = if version == "v2" {
            "let systemd delegate the cgroup controllers cpu, memory and pids to your user (Delegate= of user@.service)"
        } else {
            "boot the machine with cgroup v2, or run podman as root"
        };
        Some((detail, fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCES: ResourceLimits = ResourceLimits { memory: 1, millicpus: None, pids: 1, disk: None };

    fn podman(rootless: bool, cgroups: &str) -> EngineInfo {
        let answer = format!(
            r#"{{"host": {{{cgroups}, "security": {{"rootless": {rootless}, "selinuxEnabled": false}},
                "serviceIsRemote": false, "arch": "amd64"}}, "store": {{}}}}"#
        );
        EngineInfo::parse_podman(&answer).unwrap()
    }

    #[test]
    fn podman_without_root_enforces_the_limits_that_its_user_has_controllers_for() {
        let v1 = podman(true, r#""cgroupVersion": "v1", "cgroupControllers": []"#);
        let none = podman(true, r#""cgroupVersion": "v1", "cgroupControllers": null"#);
        assert_eq!(v1, none);
        let (detail, fix) = v1.describe_missing_limits(&RESOURCES).unwrap();
        assert!(detail.ends_with("machine: memory, pids (cgroup v1)"), "{detail}");
        assert!(fix.contains("cgroup v2"), "{fix}");
        assert!(Limit::ALL.iter().all(|limit| !v1.enforces(*limit)));
        let v2 = podman(true, r#""cgroupVersion": "v2", "cgroupControllers": ["memory", "pids"]"#);
        assert_eq!(v2.describe_missing_limits(&RESOURCES), None);
        let with_cpus = ResourceLimits { millicpus: Some(500), ..RESOURCES };
        let (detail, fix) = v2.describe_missing_limits(&with_cpus).unwrap();
        assert!(detail.ends_with("machine: cpus (cgroup v2)") && fix.contains("Delegate"), "{detail} {fix}");
        assert!(v2.enforces(Limit::Memory) && !v2.enforces(Limit::Cpus));
    }

    #[test]
    fn podman_as_root_and_docker_enforce_every_limit() {
        let root = podman(false, r#""cgroupVersion": "v1", "cgroupControllers": []"#);
        for info in [root, EngineInfo::default()] {
            assert!(Limit::ALL.iter().all(|limit| info.enforces(*limit)) && !info.is_rootless);
            assert_eq!(info.describe_missing_limits(&RESOURCES), None);
        }
    }

    #[test]
    fn podman_without_root_on_another_machine_is_not_that_of_this_user() {
        let answer =
            r#"{"host": {"security": {"rootless": true, "selinuxEnabled": true}, "serviceIsRemote": true}}"#;
        let info = EngineInfo::parse_podman(answer).unwrap();
        assert!(!info.is_rootless && info.has_selinux);
        assert_eq!(EngineInfo::parse_podman("podman: no such command"), None);
    }
}
