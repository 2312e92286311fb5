//! pueue, a peer of `relay launch` and `status`, with its own folders. Its only group is paused, so that added tasks
//! wait, as the jobs of relay do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Fallible, setup, stop};

/// A running daemon of pueue.
pub(crate) struct Pueue {
    daemon: Child,
    config: PathBuf,
}

impl Pueue {
    /// Starts the daemon with its files in `dir`, and pauses it.
    pub(crate) fn start(dir: &Path) -> Fallible<Self> {
        for program in ["pueue", "pueued"] {
            if !setup::on_path(program) {
                return Err(format!("{program} is not installed").into());
            }
        }
        let dir = dir.join("pueue");
        fs::create_dir_all(&dir)?;
        let folder = dir.display();
        let config = dir.join("pueue.yml");
        let settings = format!(
            "shared:\n  pueue_directory: {folder}\n  runtime_directory: {folder}\n  use_unix_socket: true\n  \
             unix_socket_path: {folder}/socket\nclient: {{}}\ndaemon: {{}}\n"
        );
        fs::write(&config, settings)?;
        let mut daemon = Command::new("pueued");
        daemon.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let pueue = Self { daemon: daemon.spawn()?, config };
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_secs(10));
        stop::until("pueued", interval, timeout, || pueue.try_pause().then_some(()))?;
        Ok(pueue)
    }

    /// Pauses the group; returns true if the daemon has answered.
    fn try_pause(&self) -> bool {
        command(&self.config, &["pause"]).output().is_ok_and(|output| output.status.success())
    }

    /// Returns a `pueue` command with these arguments, for this daemon.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&self.config, args)
    }
}

impl Drop for Pueue {
    fn drop(&mut self) {
        // No task has ever run, so no process is left when the daemon is gone.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn command(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("pueue");
    command.arg("-c").arg(config).args(args);
    command
}
