//! Engine `local`: the agent runs on this machine, without isolation.

#![expect(clippy::disallowed_methods, reason = "the agent's state")]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::agent_config::AgentConfig;
use super::command;
use crate::descriptors::Inherited;
use crate::registry::watch::Watch;

/// How long the agent may take to end its workers when it is told to stop; it promises 9 s.
const STOP_PATIENCE: Duration = Duration::from_secs(12);
/// How long the agent may take until it holds its state: milliseconds, with room for a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// A lock tells nobody that it was taken: so often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Configures the agent whose state is in `state` and starts it unless it runs.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub fn ensure(state: &Path, config: &AgentConfig, files: &Inherited) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("engine local needs Linux: use `relay up --engine docker`".to_owned());
    }
    let program = command::agent_program()?;
    configure(&program, state, config).map_err(|e| format!("{} configure: {e}", program.display()))?;
    if is_running(state) {
        return Ok(());
    }
    start(&program, state, files).map_err(|e| format!("{} could not be started: {e}", program.display()))
}

/// Whether an agent holds the state folder.
pub fn is_running(state: &Path) -> bool {
    File::open(state.join("agent.lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Tells the agent to stop and waits until it has. Returns whether it has.
pub fn stop(state: &Path) -> bool {
    let watch = Watch::new(state);
    let deadline = Instant::now() + STOP_PATIENCE;
    // The lock's holder wrote its id there; while it is held, the id is no other process's.
    if let Some(pid) = fs::read_to_string(state.join("agent.lock"))
        .ok()
        .filter(|_| is_running(state))
        .and_then(|text| text.trim().parse().ok())
        .and_then(Pid::from_raw)
    {
        let _ = kill_process(pid, Signal::TERM);
    }
    while is_running(state) {
        if !watch.wait(Some(deadline)) {
            return false;
        }
    }
    true
}

fn configure(program: &Path, state: &Path, config: &AgentConfig) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    let mut configure = Command::new(program);
    configure.arg("configure").arg("--state").arg(state);
    command::feed(&mut configure, &serde_json::to_vec(config)?)
}

fn start(program: &Path, state: &Path, files: &Inherited) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(state.join("agent.log"))?;
    let mut child = Command::new(program)
        .arg("run")
        .arg("--state")
        .arg(state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // It outlives the relay, and what is typed into the relay's terminal is not for it.
        .process_group(0)
        .spawn()?;
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        files.give(pid);
    }
    // An agent that doesn't hold its state yet would not be found by who is to stop it.
    let watch = Watch::new(state);
    let deadline = Instant::now() + START_PATIENCE;
    while !is_running(state) && child.try_wait()?.is_none() && Instant::now() < deadline {
        watch.wait(Some(Instant::now() + LOOK));
    }
    // Reaps it if it ends before the relay does.
    std::thread::spawn(move || child.wait());
    Ok(())
}
