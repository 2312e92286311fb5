//! The real Codex as people use it: its full screen, in a terminal of tmux.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::host_session::Host;
use super::{PATIENCE, Site, processes, programs};

/// A terminal with a Codex session in it. Both end with this.
#[derive(Debug)]
pub struct Tui {
    socket: PathBuf,
    home: PathBuf,
}

impl Tui {
    /// Opens a session in the site, whose first input is `prompt`: without a sandbox, and without the server that Codex
    /// starts for its sessions.
    ///
    /// # Panics
    /// When tmux can't be run; `tests/run.sh` installs it.
    pub fn open(host: &Host, site: &Site, prompt: &str) -> Self {
        Self::start(host, site, &[&Host::ARGUMENTS[..], &["--no-daemon", prompt]].concat())
    }

    /// Opens a session in the site as people do: in the sandbox, which asks nobody, and on the server that Codex starts for
    /// its sessions.
    ///
    /// # Panics
    /// When tmux can't be run; `tests/run.sh` installs it.
    pub fn open_in_sandbox(host: &Host, site: &Site, prompt: &str) -> Self {
        Self::start(host, site, &["-s", "workspace-write", "-a", "never", prompt])
    }

    fn start(host: &Host, site: &Site, arguments: &[&str]) -> Self {
        // Nobody is there to say that the folder may be trusted and that the model is to stay.
        let root = site.root().display();
        host.configure(&format!(
            "[projects.\"{root}\"]\ntrust_level = \"trusted\"\n\
             [notice.model_migrations]\n\"gpt-5.5\" = \"gpt-6-sol\"\n\
             [tui]\nscreen_reader_detection_done = true\n[tui.model_availability_nux]\n\"gpt-6.1-sol\" = 1"
        ));
        let tui = Self { socket: site.root().join("tmux"), home: host.home().to_owned() };
        let mut tmux = site.environment(tui.command(&["new-session", "-d", "-x", "120", "-y", "40"]));
        // The server inherits the environment of the client that starts it.
        tmux.env("CODEX_HOME", host.home()).current_dir(site.root()).arg(programs::codex());
        let made = tmux.args(arguments).output();
        let made = made.unwrap_or_else(|e| panic!("tmux: {e}"));
        assert!(made.status.success(), "tmux: {}", String::from_utf8_lossy(&made.stderr));
        tui
    }

    /// What the terminal shows.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// Waits until the terminal shows a text.
    ///
    /// # Panics
    /// When it does not.
    pub fn shows(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{text} is not on the screen:\n{screen}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Types a line.
    pub fn enter(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(args);
        tmux
    }

    fn tmux(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap_or_else(|e| panic!("tmux: {e}"))
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
        // The server of the sessions outlives them; its program lies in their home.
        processes::kill_programs_of(&self.home);
    }
}
