//! task-spooler, a peer of `relay launch` and `status`, with its own server. A task occupies its one slot, so that
//! added tasks wait, as the jobs of relay do.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::samples::time;
use crate::{Fallible, setup};

/// Name of the program in Debian, where another program is called `ts`.
const PROGRAM: &str = "tsp";

/// A running server of task-spooler.
pub(crate) struct Spooler {
    socket: PathBuf,
}

impl Spooler {
    /// Starts the server with its socket in `dir`, and a task that occupies the slot.
    pub(crate) fn start(dir: &Path) -> Fallible<Self> {
        if !setup::on_path(PROGRAM) {
            return Err(format!("{PROGRAM} is not installed").into());
        }
        let spooler = Self { socket: dir.join("spooler-socket") };
        time(&mut command(&spooler.socket, &["-n", "sleep", "1000"]))?;
        Ok(spooler)
    }

    /// Returns a `tsp` command with these arguments, for this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&self.socket, args)
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        // The server is ended before its running task, because it would start the next task. So the process id of the
        // running task is requested first.
        let running = command(&self.socket, &["-p"]).output();
        let _ = command(&self.socket, &["-K"]).output();
        let pid = running.ok().and_then(|output| String::from_utf8(output.stdout).ok());
        let pid = pid.and_then(|pid| pid.trim().parse().ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

fn command(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env("TS_SOCKET", socket).args(args);
    command
}
