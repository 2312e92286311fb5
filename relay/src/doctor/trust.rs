//! Checks of the protections between user, sessions and workers: approval, paths, limits, sandbox, secrets.

use common::job::{NO_SANDBOX_IN_CONTAINER, Sandbox};

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::run_probe;
use crate::approval::ApprovalState;
use crate::config::ResourceLimits;
use crate::engine::engine_info::{EngineInfo, PODMAN_INFO};
use crate::engine::syscall_filter::restricted_filter;
use crate::engine_kind::EngineKind;
use crate::policy;
use crate::registry::lease::PlatformStatus;

const SANDBOX_CHECK: &str = "sandbox";

/// Checks the approval of the settings and the confinement of workers.
pub(super) fn check_trust(context: &CheckContext) -> Vec<Finding> {
    let approval = context.approval.as_ref().map(|state| assess_approval(state, &context.approve_command()));
    let Ok(config) = &context.config else { return approval.into_iter().collect() };
    let is_container = context.engine.is_container();
    let workspaces = match policy::check_workspaces(context.engine, config) {
        Ok(()) => Finding::ok("workspaces", config.platform.workspaces_folder.display().to_string()),
        Err(failure) => Finding::fail("workspaces", failure.message, "correct that setting"),
    };
    let has_boxes = config.platform.has_boxes(context.engine);
    let podman = (context.engine == EngineKind::Podman).then(|| query_podman(context));
    let limits = limits_finding(is_container, has_boxes, &config.platform.resources, podman.as_ref());
    let sandbox = config.codex.job_settings(context.engine).sandbox;
    let mut findings: Vec<Finding> = approval.into_iter().collect();
    let confinement = match (is_container, sandbox) {
        (true, Sandbox::WorkspaceWrite) => container_sandbox_finding(context.platform()),
        (is_container, sandbox) => confinement_finding(is_container, sandbox),
    };
    findings.extend([workspaces, limits, confinement, isolation_finding(is_container, has_boxes)]);
    findings.extend(podman.and_then(Result::ok).and_then(|info| system_calls_finding(&info, sandbox)));
    if is_container {
        findings.push(secrets_finding(has_boxes, config.has_model_gateway(context.engine)));
    }
    findings
}

/// Queries facts about podman.
///
/// # Errors
/// Returns why podman did not describe itself.
fn query_podman(context: &CheckContext) -> Result<EngineInfo, String> {
    if context.sandbox.is_some() {
        return Err("a sandbox keeps it from its files".to_owned());
    }
    let output = run_probe("podman", &PODMAN_INFO);
    output.stdout_on_success().and_then(EngineInfo::parse_podman).ok_or_else(|| output.describe_failure())
}

/// Builds the finding about a filter of system calls that podman's containers lack; `None` if they have one.
fn system_calls_finding(info: &EngineInfo, sandbox: Sandbox) -> Option<Finding> {
    let reason = restricted_filter(info, sandbox).err()?;
    Some(Finding::warn(
        "system_calls",
        format!("workers can create namespaces and use the kernel's keyrings: {reason}"),
        "use podman on this machine, with the file /usr/share/containers/seccomp.json, then `relay restart`",
    ))
}

/// Builds the finding about the limits of containers. `podman` has the facts about podman, if that is the engine.
fn limits_finding(
    is_container: bool,
    has_boxes: bool,
    resources: &ResourceLimits,
    podman: Option<&Result<EngineInfo, String>>,
) -> Finding {
    const LIMITS_CHECK: &str = "limits";
    if !is_container {
        let reason = "engine local has none: workers share this machine's memory and processes";
        return Finding::skipped(LIMITS_CHECK, reason);
    }
    match podman {
        Some(Err(reason)) => {
            let detail = format!("podman did not say which limits it enforces: {reason}");
            return Finding::skipped(LIMITS_CHECK, detail);
        }
        Some(Ok(info)) => {
            if let Some((detail, fix)) = info.describe_missing_limits(resources) {
                return Finding::warn(LIMITS_CHECK, detail, fix);
            }
        }
        None => {}
    }
    let subject = if has_boxes { "each job" } else { "the platform" };
    Finding::ok(LIMITS_CHECK, format!("{subject} may use {}", resources.describe()))
}

fn isolation_finding(is_container: bool, has_boxes: bool) -> Finding {
    const ISOLATION_CHECK: &str = "isolation";
    match (is_container, has_boxes) {
        (true, true) => Finding::ok(ISOLATION_CHECK, "each job has a container of its own"),
        (true, false) => Finding::warn(
            ISOLATION_CHECK,
            "all jobs share one container, with its processes, home, memory and Codex home",
            "set isolation = \"job\" in [platform], then `relay restart`",
        ),
        (false, _) => Finding::skipped(
            ISOLATION_CHECK,
            "engine local gives jobs no container: they share this machine's processes, home, memory and network; \
             docker and podman can give each job its own",
        ),
    }
}

/// Builds the finding about the secrets that a job in a container can read.
fn secrets_finding(has_boxes: bool, has_model_gateway: bool) -> Finding {
    const SECRETS_CHECK: &str = "secrets";
    match (has_boxes, has_model_gateway) {
        (true, true) => Finding::ok(
            SECRETS_CHECK,
            "the model's key and the secrets of other jobs are not in a job's container",
        ),
        (true, false) => Finding::warn(
            SECRETS_CHECK,
            "the model's commands can read the model's key, which Codex holds in the job's container",
            "set gateway = true in [model], then run `relay restart`",
        ),
        (false, true) => Finding::warn(
            SECRETS_CHECK,
            "all jobs share one container, and one job can read the environment of another; the model's key is not in it",
            "give --env secrets only to jobs that run alone",
        ),
        (false, false) => Finding::warn(
            SECRETS_CHECK,
            "all jobs share one container: the model's commands can read the model's key, and one job can read the \
             environment of another",
            "set gateway = true in [model], then run `relay restart`, and give --env secrets only to jobs that run alone",
        ),
    }
}

fn assess_approval(approval: &ApprovalState, fix: &str) -> Finding {
    const APPROVAL_CHECK: &str = "approval";
    match approval {
        ApprovalState::Approved => Finding::ok(APPROVAL_CHECK, "these settings are approved"),
        ApprovalState::New(_) => {
            Finding::warn(APPROVAL_CHECK, "the settings of this project have not been approved yet", fix)
        }
        ApprovalState::Changed(lines) => Finding::warn(
            APPROVAL_CHECK,
            format!("the settings changed since they were approved: {}", lines.join("; ")),
            fix,
        ),
    }
}

/// Builds the finding about the agent's test of Codex's sandbox within the container.
fn container_sandbox_finding(platform: Option<&PlatformStatus>) -> Finding {
    match platform {
        Some(PlatformStatus::Ready { codex_problem, .. }) => match codex_problem {
            Some(problem) if problem.starts_with(NO_SANDBOX_IN_CONTAINER) => Finding::fail(
                SANDBOX_CHECK,
                NO_SANDBOX_IN_CONTAINER,
                "remove sandbox = \"workspace-write\" from [codex]: the container is a sandbox; then `relay restart`",
            ),
            _ => Finding::ok(SANDBOX_CHECK, "the container, and Codex's own within it"),
        },
        _ => Finding::skipped(SANDBOX_CHECK, "known once the platform is up"),
    }
}

/// Builds the finding about what confines workers. For a container with Codex's own sandbox it is
/// [`container_sandbox_finding`].
fn confinement_finding(is_container: bool, sandbox: Sandbox) -> Finding {
    match (is_container, sandbox) {
        (true, _) => Finding::ok(SANDBOX_CHECK, "the container: workers see the workspaces folder alone"),
        (false, Sandbox::WorkspaceWrite) => Finding::ok(
            SANDBOX_CHECK,
            "Codex's own: workers write their workspace, /tmp and caches of their own, and read most of what you can read",
        ),
        (false, Sandbox::Off) => Finding::warn(
            SANDBOX_CHECK,
            "off: workers run on this machine with all your rights",
            "remove sandbox = \"off\" from [codex], or use a container engine",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn limits_that_podman_does_not_enforce_are_a_warning() {
        let resources = ResourceLimits { memory: 1 << 30, millicpus: None, pids: 64, disk: None };
        let rootless = |controllers: &str| {
            let host = format!(r#""cgroupControllers": [{controllers}], "security": {{"rootless": true}}"#);
            EngineInfo::parse_podman(&format!(r#"{{"host": {{"cgroupVersion": "v2", {host}}}}}"#)).unwrap()
        };
        let finding = |podman: Option<Result<EngineInfo, String>>| {
            limits_finding(true, true, &resources, podman.as_ref())
        };
        assert_eq!(finding(Some(Ok(rootless("")))).state, State::Warn);
        assert_eq!(finding(Some(Ok(rootless(r#""memory", "pids""#)))).state, State::Ok);
        assert_eq!(finding(None).state, State::Ok);
        let unknown = finding(Some(Err("no answer within 5 s".to_owned())));
        assert_eq!(unknown.state, State::Skipped);
        assert!(unknown.detail.contains("did not say") && unknown.detail.ends_with("5 s"), "{unknown:?}");
        assert_eq!(limits_finding(false, false, &resources, None).state, State::Skipped);
    }

    #[test]
    fn podman_without_a_file_for_its_filter_is_a_warning() {
        let answer = r#"{"host": {"security": {"seccompEnabled": true, "seccompProfilePath": ""}}}"#;
        let info = EngineInfo::parse_podman(answer).unwrap();
        let finding = system_calls_finding(&info, Sandbox::Off).unwrap();
        assert_eq!(finding.state, State::Warn);
        assert!(finding.detail.contains("can create namespaces"), "{finding:?}");
    }

    #[test]
    fn settings_are_approved_or_new_or_changed() {
        for (approval, state, detail_start) in [
            (ApprovalState::Approved, State::Ok, "these settings are approved"),
            (
                ApprovalState::New(vec!["engine = docker".into()]),
                State::Warn,
                "the settings of this project have not been approved",
            ),
            (ApprovalState::Changed(vec!["+ a = 1".into()]), State::Warn, "the settings changed since"),
        ] {
            let finding = assess_approval(&approval, "`relay up`");
            assert!(finding.state == state && finding.detail.starts_with(detail_start), "{finding:?}");
        }
        assert_eq!(confinement_finding(false, Sandbox::Off).state, State::Warn);
        let isolation = |is_container, has_boxes| isolation_finding(is_container, has_boxes).state;
        assert_eq!(isolation(true, true), State::Ok);
        assert_eq!(isolation(true, false), State::Warn);
        assert_eq!(isolation(false, true), State::Skipped);
    }
}
