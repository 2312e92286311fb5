//! Checks of the engine, of the platform's image, and of the mounted workspaces.

use super::context::CheckContext;
use super::finding::Finding;
use super::probe::{ProbeOutput, run_probe};
use crate::config::PlatformConfig;
use crate::engine::container;
use crate::engine_kind::EngineKind;
use crate::registry::lease::PlatformStatus;

const ENGINE_CHECK: &str = "engine";
const IMAGE_CHECK: &str = "image";
const MOUNT_CHECK: &str = "mount";
/// Template that makes the engine print the versions that the image was built with.
const LABELS_TEMPLATE: &str =
    "{{index .Config.Labels \"relay.agent.version\"}}/{{index .Config.Labels \"relay.codex.version\"}}";

/// Checks that the engine answers and has a platform image that was built with the expected versions.
pub(super) fn check_engine(context: &CheckContext) -> Vec<Finding> {
    let engine = context.engine;
    if !engine.is_container() {
        return local_findings();
    }
    if context.sandbox.is_some() {
        let reason = "inside a sandbox";
        return [ENGINE_CHECK, IMAGE_CHECK, MOUNT_CHECK].map(|check| Finding::skipped(check, reason)).into();
    }
    let config = match &context.config {
        Ok(config) => config,
        Err(unusable) => {
            return [ENGINE_CHECK, IMAGE_CHECK, MOUNT_CHECK]
                .map(|check| Finding::skipped(check, unusable.explanation()))
                .into();
        }
    };
    let image = config.platform.image.clone();
    // The probes run concurrently, because each may take its whole time limit.
    let image_probe = std::thread::spawn({
        let image = image.clone();
        move || run_probe(engine.as_str(), &["image", "inspect", "--format", LABELS_TEMPLATE, "--", &image])
    });
    let endpoint = std::thread::spawn(move || {
        let format = "{{.Name}} {{.Endpoints.docker.Host}}";
        run_probe(engine.as_str(), &["context", "inspect", "--format", format])
            .stdout_on_success()
            .map(str::to_owned)
    });
    let mut version = run_probe(engine.as_str(), &["version", "--format", "{{.Server.Version}}"]);
    if engine == EngineKind::Podman && matches!(version, ProbeOutput::Ended { succeeded: false, .. }) {
        // Podman without a service reports no server version.
        version = run_probe(engine.as_str(), &["version", "--format", "{{.Client.Version}}"]);
    }
    let endpoint = EngineEndpoint {
        host: context.variable("DOCKER_HOST").map(str::to_owned),
        context: endpoint.join().ok().flatten().filter(|_| engine == EngineKind::Docker),
    };
    let engine_answers = version.stdout_on_success().is_some();
    let mount = match context.platform() {
        Some(PlatformStatus::Ready { .. }) if engine_answers => {
            let user = container::user_argument(config.platform.worker_ids);
            let output =
                run_probe(engine.as_str(), &container::write_test_arguments(&config.platform.name, &user));
            assess_mount(&output, &config.platform)
        }
        _ => Finding::skipped(MOUNT_CHECK, "known once the platform is up"),
    };
    let image = match image_probe.join() {
        Ok(output) if engine_answers => assess_image(&output, &image, &config.platform.codex_version),
        _ => Finding::skipped(IMAGE_CHECK, "the engine does not answer"),
    };
    vec![assess_engine(engine, &version, &endpoint), image, mount]
}

fn local_findings() -> Vec<Finding> {
    let engine = if cfg!(target_os = "linux") {
        Finding::ok(ENGINE_CHECK, "local: workers run on this machine")
    } else {
        Finding::fail(ENGINE_CHECK, "engine local needs Linux", "`relay up --engine docker`")
    };
    vec![
        engine,
        Finding::skipped(IMAGE_CHECK, "engine local needs none"),
        Finding::skipped(MOUNT_CHECK, "engine local needs none"),
    ]
}

/// Address of the engine that the `docker` command uses.
#[derive(Debug, Default)]
struct EngineEndpoint {
    /// Value of `DOCKER_HOST`.
    host: Option<String>,
    /// Name and address of the selected Docker context.
    context: Option<String>,
}

impl EngineEndpoint {
    fn describe(&self) -> String {
        match self {
            Self { host: Some(host), .. } => format!(" (DOCKER_HOST {host})"),
            Self { context: Some(context), .. } => format!(" (context {context})"),
            _ => String::new(),
        }
    }

    fn start_advice(&self, engine: EngineKind) -> String {
        if engine == EngineKind::Podman {
            return "start it: `podman machine start` on macOS, `podman info` says more".to_owned();
        }
        let address = self.host.as_deref().or(self.context.as_deref()).unwrap_or_default();
        if address.contains("colima") {
            "start it: `colima start` (`colima restart` if it hangs)".to_owned()
        } else if self.host.is_some() {
            "start the engine at that address, or correct or unset DOCKER_HOST".to_owned()
        } else {
            "start it: `colima start`, Docker Desktop or `sudo systemctl start docker`".to_owned()
        }
    }
}

fn assess_engine(engine: EngineKind, version: &ProbeOutput, endpoint: &EngineEndpoint) -> Finding {
    let endpoint_text = endpoint.describe();
    if let Some(version) = version.stdout_on_success() {
        return Finding::ok(ENGINE_CHECK, format!("{engine} {version} answers{endpoint_text}"));
    }
    let failure = version.describe_failure();
    let fix = match version {
        ProbeOutput::NotRun(_) => {
            "install it, or use `relay up --engine local` (Linux, no isolation)".to_owned()
        }
        // Podman has no group of users that may use it.
        _ if engine == EngineKind::Docker && failure.to_lowercase().contains("permission denied") => {
            format!("may this user use {engine}? `sudo usermod -aG {engine} $USER`, then log in again")
        }
        _ => endpoint.start_advice(engine),
    };
    Finding::fail(ENGINE_CHECK, format!("{engine} does not answer{endpoint_text}: {failure}"), fix)
}

/// Checks that workers can write to their workspaces. An image without a shell can't be checked.
fn assess_mount(probe: &ProbeOutput, platform: &PlatformConfig) -> Finding {
    let folder = platform.workspaces_folder.display();
    match probe {
        ProbeOutput::Ended { succeeded: true, .. } => {
            Finding::ok(MOUNT_CHECK, format!("workers can write in {folder}"))
        }
        ProbeOutput::Ended { stderr, .. } if !container::is_missing_program(stderr) => {
            let message = container::unwritable_message(platform, stderr.trim());
            let (detail, fix) = message.split_once("): ").unwrap_or((&message, "give workers that folder"));
            Finding::fail(MOUNT_CHECK, format!("{detail})"), fix)
        }
        _ => Finding::skipped(MOUNT_CHECK, "the platform did not answer"),
    }
}

fn assess_image(probe: &ProbeOutput, image: &str, expected_codex: &str) -> Finding {
    const BUILD_ADVICE: &str = "`relay up --build` builds it";
    let own_version = env!("CARGO_PKG_VERSION");
    let Some((agent, image_codex)) = probe.stdout_on_success().and_then(|labels| labels.split_once('/'))
    else {
        return match probe {
            ProbeOutput::TimedOut => {
                Finding::warn(IMAGE_CHECK, probe.describe_failure(), "restart the engine")
            }
            _ => Finding::fail(IMAGE_CHECK, format!("{image} does not exist"), BUILD_ADVICE),
        };
    };
    if agent != own_version {
        Finding::warn(
            IMAGE_CHECK,
            format!("{image} has worker-agent {agent}, this is relay {own_version}"),
            BUILD_ADVICE,
        )
    } else if expected_codex != "latest" && image_codex != expected_codex {
        Finding::warn(
            IMAGE_CHECK,
            format!("{image} has Codex {image_codex}, {expected_codex} is wanted"),
            BUILD_ADVICE,
        )
    } else {
        Finding::ok(IMAGE_CHECK, format!("{image} with worker-agent {agent} and Codex {image_codex}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn ended(has_succeeded: bool, text: &str) -> ProbeOutput {
        let (stdout, stderr) = if has_succeeded { (text, "") } else { ("", text) };
        ProbeOutput::Ended { succeeded: has_succeeded, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn an_engine_that_does_not_answer_is_reported_with_advice_to_start_it() {
        let colima =
            || EngineEndpoint { context: Some("colima unix:///u/.colima/docker.sock".into()), host: None };
        let host = || EngineEndpoint { host: Some("tcp://10.0.0.1:2375".into()), context: None };
        for (probe, endpoint, state, detail, fix) in [
            (ended(true, "28.1"), colima(), State::Ok, "docker 28.1 answers (context colima unix:", ""),
            (
                ProbeOutput::TimedOut,
                colima(),
                State::Fail,
                "docker does not answer (context colima",
                "colima start",
            ),
            (
                ended(false, "refused"),
                host(),
                State::Fail,
                "docker does not answer (DOCKER_HOST tcp:",
                "DOCKER_HOST",
            ),
            (
                ended(false, "Permission denied"),
                EngineEndpoint::default(),
                State::Fail,
                "docker does not",
                "usermod -aG docker",
            ),
            (
                ended(false, "cannot connect"),
                EngineEndpoint::default(),
                State::Fail,
                "docker does not",
                "systemctl start",
            ),
            (
                ProbeOutput::NotRun("gone".into()),
                EngineEndpoint::default(),
                State::Fail,
                "docker does not answer: gone",
                "install it",
            ),
        ] {
            let finding = assess_engine(EngineKind::Docker, &probe, &endpoint);
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.detail.starts_with(detail), "{finding:?}");
            assert!(finding.fix.unwrap_or_default().contains(fix), "{}", finding.detail);
        }
    }

    #[test]
    fn an_image_is_current_old_or_missing() {
        let own = env!("CARGO_PKG_VERSION");
        for (probe, state) in [
            (ended(true, &format!("{own}/0.169.0")), State::Ok),
            (ended(true, "0.0.1/0.169.0"), State::Warn),
            (ended(true, &format!("{own}/0.150.0")), State::Warn),
            (ended(true, "<no value>"), State::Fail),
            (ended(false, "No such image"), State::Fail),
            (ProbeOutput::TimedOut, State::Warn),
        ] {
            assert_eq!(assess_image(&probe, "relay-platform", "0.169.0").state, state, "{probe:?}");
        }
    }
}
