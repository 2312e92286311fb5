//! Starting the daemon in the background.

use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::consent::{self, Asker, Settings};
use crate::engine::{EngineKind, container};
use crate::exit::Failure;
use crate::registry::Registry;
use crate::registry::lease::{self, Lease, PlatformStatus};
use crate::registry::watch::Watch;
use crate::state_dir::StateDir;
use crate::{inheritance, sandbox};

/// How long a daemon may take until it holds the registry. It does nothing slow before that.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a platform may take: a container's start and the agent's way back, with room for a loaded machine.
const PLATFORM_PATIENCE: Duration = Duration::from_secs(90);

/// Most that is read of what a daemon said that ended, in bytes.
const LAST_WORDS: u64 = 64 << 10;

/// The engine to use: the one that is asked for, else `relay.toml`'s, else the one that a person has agreed to, else Docker.
pub fn engine(asked: Option<EngineKind>, config: &Config) -> EngineKind {
    asked.or(config.platform.engine).or_else(|| agreed_engine(&config.root)).unwrap_or(EngineKind::Docker)
}

/// The engine of a relay that lives: it was started with what a person has agreed to. The lease is no source of settings,
/// since a session may write it.
pub fn engine_of_living(config: &Config) -> EngineKind {
    agreed_engine(&config.root).unwrap_or_else(|| engine(None, config))
}

fn agreed_engine(root: &Path) -> Option<EngineKind> {
    consent::agreed(root).map(|settings| settings.engine)
}

/// Starts `relay serve` as a process of its own and returns when it holds the registry (its platform may still be
/// starting). A daemon that is there already is fine.
///
/// # Errors
/// One line with what starts it where this process can't: inside of a sandbox nothing is tried. Else the daemon's own
/// words when it ended, or why it could not be started. Exit code 5 for settings that no person has agreed to.
pub fn daemon(root: &Path, registry: &Registry, settings: &Settings, asker: Asker) -> Result<(), Failure> {
    if lease::is_held(registry) {
        return Ok(());
    }
    if let Some(sandbox) = sandbox::here() {
        return Err(Failure::unreachable(sandbox.no_relay(root)));
    }
    // What is wrong with the place of the consent is told before that there is none.
    StateDir::of(root)?;
    consent::check(root, asker, settings)?;
    registry.ensure()?;
    let watch = Watch::folder(registry.folder());
    let said_before = registry.daemon_log().size().unwrap_or(0);
    let mut child = spawn(root, registry, settings)
        .map_err(|e| Failure::unreachable(format!("the relay could not be started: {e}")))?;
    let deadline = Instant::now() + PATIENCE;
    let pid = child.id();
    loop {
        if lease::of_living(registry).is_some_and(|lease| lease.pid == pid && !lease.listen.is_empty()) {
            return Ok(());
        }
        if let Ok(Some(_)) = child.try_wait() {
            // Another process started it first.
            if lease::of_living(registry).is_some() {
                return Ok(());
            }
            // It still has to write its lease while it holds the registry.
            if !lease::is_held(registry) {
                return Err(Failure::unreachable(last_words(registry, said_before)));
            }
        }
        if !watch.wait(Some(deadline)) {
            return Err(Failure::unreachable(format!(
                "the relay did not come up within {} s: see {}",
                PATIENCE.as_secs(),
                registry.daemon_log().display()
            )));
        }
    }
}

fn spawn(root: &Path, registry: &Registry, settings: &Settings) -> io::Result<Child> {
    let log = registry.daemon_log().open_to_append()?;
    inheritance::keep_descriptors();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("serve")
        .arg("--root")
        .arg(root)
        .args(["--engine", settings.engine.as_str(), "--agreed", &settings.digest()])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C in the terminal that launched it is not meant for it.
        .process_group(0);
    if let Some(context) = container::context(settings.engine) {
        // A person who chooses another one later means other commands than those of this relay.
        command.env(container::CONTEXT, context);
    }
    command.spawn()
}

/// Waits until the platform of the relay that lives can take a job.
///
/// # Errors
/// Exit code 5 with the reason when it can't, or when the relay ends meanwhile.
pub fn platform(registry: &Registry) -> Result<Lease, Failure> {
    let watch = Watch::folder(registry.folder());
    let deadline = Instant::now() + PLATFORM_PATIENCE;
    loop {
        let lease = lease::of_living(registry);
        match lease.as_ref().map(|lease| &lease.platform) {
            Some(PlatformStatus::Ready { .. }) => {
                if let Some(lease) = lease {
                    return Ok(lease);
                }
            }
            Some(PlatformStatus::Failed { detail }) => return Err(Failure::unreachable(detail.clone())),
            Some(PlatformStatus::Starting { .. } | PlatformStatus::Stopped) => {}
            // One that has just begun has not said anything yet.
            None if lease::is_held(registry) => {}
            None => {
                let log = registry.daemon_log();
                return Err(Failure::unreachable(format!("the relay ended: see {}", log.display())));
            }
        }
        if !watch.wait(Some(deadline)) {
            let detail = match lease.map(|lease| lease.platform) {
                Some(PlatformStatus::Starting { detail }) => detail,
                _ => "nothing is known of it".to_owned(),
            };
            return Err(Failure::unreachable(format!(
                "the platform did not come up within {} s ({detail}): see {}",
                PLATFORM_PATIENCE.as_secs(),
                registry.daemon_log().display()
            )));
        }
    }
}

/// The last line that the daemon wrote behind `offset`.
fn last_words(registry: &Registry, offset: u64) -> String {
    let mut new = Vec::new();
    let _ = registry.daemon_log().open().and_then(|mut log| {
        log.seek(SeekFrom::Start(offset))?;
        log.take(LAST_WORDS).read_to_end(&mut new)
    });
    let text = String::from_utf8_lossy(&new);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.map_or("it ended at once", |line| line.strip_prefix("relay: ").unwrap_or(line));
    common::text::one_line(line, 500)
}
