//! task-spooler, with a server of its own. Its one slot is taken: added tasks wait, as the jobs of relay do.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::samples::time;
use crate::{Fallible, setup};

/// Name of the program in Debian, where `ts` is another program.
const PROGRAM: &str = "tsp";

/// A running server.
pub(crate) struct Spooler {
    socket: PathBuf,
}

impl Spooler {
    /// Starts the server with a socket in `dir`.
    pub(crate) fn start(dir: &Path) -> Fallible<Self> {
        if !setup::on_path(PROGRAM) {
            return Err(format!("{PROGRAM} is not installed").into());
        }
        let spooler = Self { socket: dir.join("spooler-socket") };
        time(&mut command(&spooler.socket, &["-n", "sleep", "1000"]))?;
        Ok(spooler)
    }

    /// A `tsp` command with these arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&self.socket, args)
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        // The server ends first: it would start the next job when the running one ends. The process id of the running
        // job is read before that, while the server can still answer.
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
