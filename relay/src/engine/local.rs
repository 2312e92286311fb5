//! Engine `local`: the agent runs on this machine and puts its workers into Codex's sandbox.
//!
//! The agent's state is in the person's state folder, where no sandbox may write. The agent's configuration, with token
//! and model key, is in the agent's memory only. If the agent outlives its relay, the next relay can only give it a new
//! address.

#![expect(clippy::disallowed_methods, reason = "the agent's state")]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::agent_config::{AgentConfig, MESSAGES_KEY, MODEL_KEYS};
use super::command;
use crate::fd_limit::InheritedLimit;
use crate::files::atomic::{self, Durability};
use crate::files::dir::RegistryDir;
use crate::files::watch::FolderWatch;

/// Maximum wait for the agent to end its workers after a stop. The agent needs at most 9 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// Maximum wait for the agent to lock its state: normally milliseconds, with margin for a loaded machine.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Name of the file in the agent's state folder with the relay's current address.
const ADDRESS_FILE: &str = "relay-url";
/// Polling interval of the wait for the agent's lock, because taking a lock causes no event.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Passes the relay's current address to a running agent. The rest of the agent's configuration stays as it is.
pub fn write_relay_address(state_folder: &Path, url: &str) -> Result<(), String> {
    atomic::replace_file(&state_folder.join(ADDRESS_FILE), format!("{url}\n").as_bytes(), Durability::Cached)
        .map_err(|e| format!("the agent's state folder {} can't be written: {e}", state_folder.display()))
}

/// Removes the configuration, with token and model key, that earlier versions kept in the registry. Returns true if
/// there was such a configuration. An agent with that configuration can't connect to this relay.
pub fn remove_old_agent_config(registry: &RegistryDir) -> bool {
    let config = registry.subfolder("agent").file("config.json");
    config.exists() && config.remove().is_ok()
}

/// Returns true if an agent holds the lock of the state folder.
pub fn is_agent_running(state_folder: &Path) -> bool {
    File::open(state_folder.join("agent.lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Stops the agent and waits for its exit. Returns true if it has exited.
pub fn stop_agent(state_folder: &Path) -> bool {
    let watch = FolderWatch::new(state_folder);
    let deadline = Instant::now() + STOP_TIMEOUT;
    // The holder of the lock wrote its process id there. While the lock is held, no other process can have that id.
    if let Some(pid) = fs::read_to_string(state_folder.join("agent.lock"))
        .ok()
        .filter(|_| is_agent_running(state_folder))
        .and_then(|text| text.trim().parse().ok())
        .and_then(Pid::from_raw)
    {
        let _ = kill_process(pid, Signal::TERM);
    }
    while is_agent_running(state_folder) {
        if !watch.wait(Some(deadline)) {
            return false;
        }
    }
    true
}

/// Starts an agent whose state is in `state_folder`. The configuration is passed through the agent's stdin and stored
/// in no file.
pub fn start_agent(
    state_folder: &Path,
    config: &AgentConfig,
    fd_limit: &InheritedLimit,
) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("engine local needs Linux: use `relay up --engine docker`".to_owned());
    }
    let program = command::agent_program()?;
    write_relay_address(state_folder, &config.url)?;
    let start_error = |e: io::Error| format!("{} could not be started: {e}", program.display());
    let (config, log) =
        (serde_json::to_vec(config).map_err(|e| e.to_string())?, state_folder.join("agent.log"));
    let mut child = spawn_agent(&program, state_folder, &config, &log).map_err(start_error)?;
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        fd_limit.restore(pid);
    }
    // Waits for the lock: without it, a later stop could not find the agent.
    let watch = FolderWatch::new(state_folder);
    let deadline = Instant::now() + START_TIMEOUT;
    while !is_agent_running(state_folder)
        && child.try_wait().map_err(start_error)?.is_none()
        && Instant::now() < deadline
    {
        watch.wait(Some(Instant::now() + POLL_INTERVAL));
    }
    if !is_agent_running(state_folder) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("worker-agent did not start: see {}", log.display()));
    }
    // Reaps the agent if it ends before the relay does.
    std::thread::spawn(move || child.wait());
    Ok(())
}

fn spawn_agent(program: &Path, state_folder: &Path, config: &[u8], log: &Path) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    let mut command = Command::new(program);
    command
        .arg("run")
        .arg("--state")
        .arg(state_folder)
        .arg("--config-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        // The agent outlives the relay and must not receive signals from the relay's terminal.
        .process_group(0);
    for key in MODEL_KEYS.into_iter().chain([MESSAGES_KEY]) {
        command.env_remove(key);
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // If the agent ends early, its log is more useful than the broken pipe.
        let _ = stdin.write_all(config);
    }
    Ok(child)
}
