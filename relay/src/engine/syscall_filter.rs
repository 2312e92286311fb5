//! Filter of system calls (seccomp) for containers of podman. Podman's own lets every process create namespaces, mount in
//! them and use the kernel's keyrings; that of Docker does not.

use common::job::Sandbox;
use serde_json::{Value, json};

use super::engine_info::EngineInfo;
use crate::bounded_file;

/// Argument of podman with the file of the filter. The filter goes through stdin, so that no file needs to be kept.
pub(super) const FILTER_ARGUMENTS: [&str; 2] = ["--security-opt", "seccomp=/dev/stdin"];
/// System calls of the kernel's keyrings.
const KEYRINGS: [&str; 3] = ["add_key", "keyctl", "request_key"];
/// System calls that create namespaces, enter them, or mount.
const NAMESPACES: [&str; 13] = [
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount",
    "umount2",
    "unshare",
];
/// Flags of `clone` that create a namespace.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Returns podman's own filter without the system calls that workers don't need.
///
/// # Errors
/// Podman has no filter in a file of this machine, or that file can't be read.
pub fn restricted_filter(info: &EngineInfo, sandbox: Sandbox) -> Result<Vec<u8>, String> {
    let path = info
        .seccomp_profile
        .as_deref()
        .ok_or("podman has no file with a filter of system calls on this machine")?;
    let profile = bounded_file::read_bounded(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    profile
        .and_then(|profile| restrict(profile, sandbox))
        .and_then(|filter| serde_json::to_vec(&filter).ok())
        .ok_or_else(|| format!("podman's filter of system calls {} can't be used", path.display()))
}

/// Removes system calls from a filter. With `sandbox`, Codex's own sandbox needs namespaces.
fn restrict(mut profile: Value, sandbox: Sandbox) -> Option<Value> {
    let rules = profile.get_mut("syscalls")?.as_array_mut()?;
    let mut denied = KEYRINGS.to_vec();
    if sandbox == Sandbox::Off {
        denied.extend(NAMESPACES);
        take_from_rules(rules, &["clone", "clone3"]);
        // C libraries fall back to `clone`, whose flags a filter can see.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
        rules.push(json!({
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            "excludes": {"arches": ["s390", "s390x"]},
        }));
        rules.push(json!({
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 1, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            "includes": {"arches": ["s390", "s390x"]},
        }));
    }
    take_from_rules(rules, &denied);
    rules.push(json!({"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}));
    Some(profile)
}

/// Removes system calls from all rules.
fn take_from_rules(rules: &mut Vec<Value>, denied: &[&str]) {
    let names = |rule: &mut Value| {
        let names = rule.get_mut("names").and_then(Value::as_array_mut)?;
        names.retain(|name| name.as_str().is_none_or(|name| !denied.contains(&name)));
        Some(!names.is_empty())
    };
    rules.retain_mut(|rule| names(rule).unwrap_or(true));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(profile: &Value, name: &str) -> Vec<String> {
        let rules = profile["syscalls"].as_array().unwrap();
        let has_name = |rule: &&Value| rule["names"].as_array().unwrap().iter().any(|found| found == name);
        rules.iter().filter(has_name).map(|rule| rule["action"].as_str().unwrap().to_owned()).collect()
    }

    fn profile() -> Value {
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "clone", "clone3", "mount", "keyctl"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["setns"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        ]})
    }

    #[test]
    fn a_worker_can_neither_use_keyrings_nor_create_namespaces() {
        let filter = restrict(profile(), Sandbox::Off).unwrap();
        assert_eq!(filter["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(actions(&filter, "read"), ["SCMP_ACT_ALLOW"]);
        for denied in ["mount", "keyctl", "setns", "unshare", "clone3", "add_key"] {
            assert_eq!(actions(&filter, denied), ["SCMP_ACT_ERRNO"], "{denied}");
        }
        let clone = filter["syscalls"].as_array().unwrap().iter().filter(|rule| rule["names"][0] == "clone");
        assert!(clone.clone().all(|rule| rule["args"][0]["value"] == 0x7e02_0000) && clone.count() == 2);
    }

    #[test]
    fn the_sandbox_of_codex_keeps_its_namespaces() {
        let filter = restrict(profile(), Sandbox::WorkspaceWrite).unwrap();
        for allowed in ["mount", "clone", "clone3", "setns"] {
            assert_eq!(actions(&filter, allowed), ["SCMP_ACT_ALLOW"], "{allowed}");
        }
        assert_eq!(actions(&filter, "keyctl"), ["SCMP_ACT_ERRNO"]);
        assert_eq!(restrict(json!({}), Sandbox::Off), None);
    }
}
