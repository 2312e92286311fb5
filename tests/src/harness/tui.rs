//! The real Codex with its full-screen interface, in a terminal of tmux.

use std::path::PathBuf;
use std::process::Command;

use super::host_session::Host;
use super::tmux::Terminal;
use super::{Site, processes, programs};

/// A terminal with a Codex session in it. Dropping this value ends both.
#[derive(Debug)]
pub struct Tui {
    terminal: Terminal,
    /// Server of the session. It is dropped after the terminal, because a running session would restart it.
    _server: Server,
}

impl Tui {
    /// Opens a session in the site with `prompt`, without a sandbox and without a server of Codex.
    pub fn open(host: &Host, site: &Site, prompt: &str) -> Self {
        Self::start(host, site, &[&Host::ARGUMENTS[..], &["--no-daemon", prompt]].concat())
    }

    /// Opens a session in the site as a user does: in the sandbox, without approvals, with a server of Codex.
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
            terminal: Terminal::with_program(site, 120, 40, &codex),
            _server: Server { home: host.home().to_owned() },
        }
    }

    /// Waits until the terminal shows a text.
    pub fn wait_until_shown(&self, text: &str) {
        self.terminal.wait_until_shown(text, |screen| screen.contains(text));
    }
}

/// The server that Codex starts for its sessions and that outlives them. Dropping this value kills it.
#[derive(Debug)]
struct Server {
    /// `CODEX_HOME` of the sessions, which holds the server's program.
    home: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        processes::kill_programs_of(&self.home);
    }
}
