//! pueue, with folders of its own. Its only group is paused: added tasks wait, as the jobs of relay do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Fallible, setup, stop};

/// A running `pueued`.
pub(crate) struct Pueue {
    daemon: Child,
    config: PathBuf,
}

impl Pueue {
    /// Starts the daemon below `dir` and pauses it.
    pub(crate) fn start(dir: &Path) -> Fallible<Self> {
        for program in ["pueue", "pueued"] {
            if !setup::on_path(program) {
                return Err(format!("{program} is not installed").into());
            }
        }
        let dir = dir.join("pueue");
        fs::create_dir_all(&dir)?;
        let shown = dir.display();
        let config = dir.join("pueue.yml");
        let shared = format!(
            "shared:\n  pueue_directory: {shown}\n  runtime_directory: {shown}\n  use_unix_socket: true\n  \
             unix_socket_path: {shown}/socket\nclient: {{}}\ndaemon: {{}}\n"
        );
        fs::write(&config, shared)?;
        let mut daemon = Command::new("pueued");
        daemon.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let pueue = Self { daemon: daemon.spawn()?, config };
        let (step, patience) = (Duration::from_millis(20), Duration::from_secs(10));
        stop::until("pueued", step, patience, || pueue.is_paused().then_some(()))?;
        Ok(pueue)
    }

    /// Sends a pause command; returns true if it succeeded.
    fn is_paused(&self) -> bool {
        command(&self.config, &["pause"]).output().is_ok_and(|output| output.status.success())
    }

    /// A `pueue` command with these arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&self.config, args)
    }
}

impl Drop for Pueue {
    fn drop(&mut self) {
        // Its tasks have never run, so no process is left when the daemon is gone.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn command(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("pueue");
    command.arg("-c").arg(config).args(args);
    command
}
