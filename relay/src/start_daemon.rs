//! Start of the daemon in the background.

use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::approval::{self, ApprovableSettings, Initiator};
use crate::config::Config;
use crate::engine::container;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::files::watch::FolderWatch;
use crate::registry::Registry;
use crate::registry::lease::{self, Lease, PlatformStatus};
use crate::state_dir::StateDir;
use crate::{inheritance, sandbox};

/// Time limit for a new daemon to lock the registry, which is one of its first actions.
const DAEMON_START_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a platform to become ready: the creation of a container, which alone may take podman without root 80 s,
/// the checks before and after it, and the agent's connection, with margin for a loaded machine.
const PLATFORM_START_TIMEOUT: Duration = Duration::from_secs(180);

/// Maximum number of bytes that are read from the log of a daemon that has ended.
const MAX_LOG_TAIL_BYTES: u64 = 64 << 10;

/// Returns the engine to use: the requested one, else the one of `relay.toml`, else the approved one, else Docker.
pub fn choose_engine(requested: Option<EngineKind>, config: &Config) -> EngineKind {
    requested
        .or(config.platform.engine)
        .or_else(|| approved_engine(&config.root))
        .unwrap_or(EngineKind::Docker)
}

/// Returns the engine of a running relay, which was started with approved settings. The lease is not used as a source
/// of settings, since a session may write it.
pub fn running_engine(config: &Config) -> EngineKind {
    approved_engine(&config.root).unwrap_or_else(|| choose_engine(None, config))
}

fn approved_engine(root: &Path) -> Option<EngineKind> {
    approval::approved_settings(root).map(|settings| settings.engine)
}

/// Starts `relay serve` as a separate process, and returns when that process holds the registry. The platform may still
/// be starting. A daemon that is already running is not an error.
///
/// # Errors
/// Returns a one-line message. Inside a sandbox no start is attempted, and the message names the command that starts
/// the relay. Otherwise the message quotes the last line of the daemon's log if the daemon ended, or gives the reason
/// why the daemon could not be started. The exit code for settings that no person has approved is 5.
pub fn ensure_daemon(
    root: &Path,
    registry: &Registry,
    settings: &ApprovableSettings,
    initiator: Initiator,
) -> Result<(), Failure> {
    if lease::is_held(registry) {
        return Ok(());
    }
    if let Some(sandbox) = sandbox::current_sandbox() {
        return Err(Failure::unreachable(sandbox.no_relay_message(root)));
    }
    // A problem with the location of the approval is reported before a missing approval.
    StateDir::for_project(root)?;
    approval::require_approval(root, initiator, settings)?;
    registry.ensure()?;
    let watch = FolderWatch::registry_folder(registry.folder());
    let log_length = registry.daemon_log().size().unwrap_or(0);
    let mut child = spawn_daemon(root, registry, settings)
        .map_err(|e| Failure::unreachable(format!("the relay could not be started: {e}")))?;
    let deadline = Instant::now() + DAEMON_START_TIMEOUT;
    let pid = child.id();
    loop {
        if lease::running_lease(registry).is_some_and(|lease| lease.pid == pid && !lease.listen.is_empty()) {
            return Ok(());
        }
        if let Ok(Some(_)) = child.try_wait() {
            // Another process started a daemon first.
            if lease::running_lease(registry).is_some() {
                return Ok(());
            }
            // A daemon that holds the registry may not have written its lease yet. If none holds it, the start has failed.
            if !lease::is_held(registry) {
                return Err(Failure::unreachable(last_log_line(registry, log_length)));
            }
        }
        if !watch.wait(Some(deadline)) {
            return Err(Failure::unreachable(format!(
                "the relay did not come up within {} s: see {}",
                DAEMON_START_TIMEOUT.as_secs(),
                registry.daemon_log().display()
            )));
        }
    }
}

fn spawn_daemon(root: &Path, registry: &Registry, settings: &ApprovableSettings) -> io::Result<Child> {
    let log = registry.daemon_log().open_to_append()?;
    inheritance::mark_descriptors_close_on_exec();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("serve")
        .arg("--root")
        .arg(root)
        .args(["--engine", settings.engine.as_str(), "--approved-digest", &settings.digest()])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C in the launching terminal must not reach the daemon.
        .process_group(0);
    if let Some(context) = container::selected_context(settings.engine) {
        // A Docker context that a person selects later must not affect this relay.
        command.env(container::CONTEXT_VARIABLE, context);
    }
    command.spawn()
}

/// Waits until the platform of the running relay can take a job.
///
/// # Errors
/// Returns exit code 5 with the reason when the platform can't start, or when the relay ends meanwhile.
pub fn wait_for_platform(registry: &Registry) -> Result<Lease, Failure> {
    let watch = FolderWatch::registry_folder(registry.folder());
    let deadline = Instant::now() + PLATFORM_START_TIMEOUT;
    loop {
        let lease = lease::running_lease(registry);
        match lease.as_ref().map(|lease| &lease.platform) {
            Some(PlatformStatus::Ready { .. }) => {
                if let Some(lease) = lease {
                    return Ok(lease);
                }
            }
            Some(PlatformStatus::Failed { detail }) => return Err(Failure::unreachable(detail.clone())),
            Some(PlatformStatus::Starting { .. } | PlatformStatus::Stopped) => {}
            // A daemon that has just started has not written its lease yet.
            None if lease::is_held(registry) => {}
            None => {
                let log = registry.daemon_log();
                return Err(Failure::unreachable(format!("the relay ended: see {}", log.display())));
            }
        }
        if !watch.wait(Some(deadline)) {
            let detail = match lease.map(|lease| lease.platform) {
                Some(PlatformStatus::Starting { detail }) => detail,
                _ => "its state is unknown".to_owned(),
            };
            return Err(Failure::unreachable(format!(
                "the platform did not come up within {} s ({detail}): see {}",
                PLATFORM_START_TIMEOUT.as_secs(),
                registry.daemon_log().display()
            )));
        }
    }
}

/// Returns the last line that the daemon wrote after `offset`.
fn last_log_line(registry: &Registry, offset: u64) -> String {
    let mut new_bytes = Vec::new();
    let _ = registry.daemon_log().open().and_then(|mut log| {
        log.seek(SeekFrom::Start(offset))?;
        log.take(MAX_LOG_TAIL_BYTES).read_to_end(&mut new_bytes)
    });
    let text = String::from_utf8_lossy(&new_bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.map_or("it ended at once", |line| line.strip_prefix("relay: ").unwrap_or(line));
    common::text_format::one_line(line, 500)
}
