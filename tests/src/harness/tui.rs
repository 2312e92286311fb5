//! The real Codex with its full-screen interface, in a terminal of tmux.

use std::path::PathBuf;
use std::process::Command;

use super::host_session::Host;
use super::tmux::Terminal;
use super::{Site, processes, programs};

/// A terminal with a Codex session in it. Both end when this is dropped.
#[derive(Debug)]
pub struct Tui {
    terminal: Terminal,
    /// Dropped after the terminal, whose session would restart its server.
    _server: Server,
}

impl Tui {
    /// Opens a session in the site whose first input is `prompt`, without a sandbox and without the server that Codex
    /// starts for its sessions.
    pub fn open(host: &Host, site: &Site, prompt: &str) -> Self {
        Self::start(host, site, &[&Host::ARGUMENTS[..], &["--no-daemon", prompt]].concat())
    }

    /// Opens a session in the site like a user: in the sandbox, without approval questions, and on the server that
    /// Codex starts for its sessions.
    pub fn open_in_sandbox(host: &Host, site: &Site, prompt: &str) -> Self {
        Self::start(host, site, &["-s", "workspace-write", "-a", "never", prompt])
    }

    fn start(host: &Host, site: &Site, arguments: &[&str]) -> Self {
        // Answers the questions about trust and model in advance.
        let root = site.root().display();
        host.configure(&format!(
            "[projects.\"{root}\"]\ntrust_level = \"trusted\"\n\
             [notice.model_migrations]\n\"gpt-5.5\" = \"gpt-6-sol\"\n\
             [tui]\nscreen_reader_detection_done = true\n[tui.model_availability_nux]\n\"gpt-6.1-sol\" = 1"
        ));
        let mut codex = site.environment(Command::new(programs::codex()));
        codex.env("CODEX_HOME", host.home()).args(arguments);
        Self {
            terminal: Terminal::with(site, 120, 40, &codex),
            _server: Server { home: host.home().to_owned() },
        }
    }

    /// Waits until the terminal shows a text.
    pub fn shows(&self, text: &str) {
        self.terminal.shows(text, |screen| screen.contains(text));
    }
}

/// The server of the sessions, which outlives them; its program is in their home.
#[derive(Debug)]
struct Server {
    home: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        processes::kill_programs_of(&self.home);
    }
}
