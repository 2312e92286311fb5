//! A real terminal: a separate tmux server that runs one program in it.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::sandbox::with_environment_of;
use super::{PATIENCE, Site};

/// A terminal in a site's root. Dropping it ends the tmux server and all programs in the terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Name of the server's socket in tmux's own folder. Sandboxes hide that folder as a whole, so the jobs of other tests
    /// don't depend on how long this server lives.
    socket_name: String,
}

impl Terminal {
    /// Opens a terminal of this size that runs a plain shell, with `relay` on the PATH.
    pub fn open(site: &Site, columns: u16, rows: u16) -> Self {
        let mut shell = site.environment(Command::new("sh"));
        // Without arguments tmux would run the program in the user's own shell, which may have no prompt.
        shell.arg("-i").env("CODEX_HOME", site.codex_home()).env("PS1", "$ ");
        let terminal = Self::with_program(site, columns, rows, &shell);
        terminal.wait_until_shown("the shell's prompt", |screen| screen.starts_with('$'));
        terminal
    }

    /// Opens a terminal of this size that runs `program`, with the programs under test on the PATH.
    pub fn with_program(site: &Site, columns: u16, rows: u16, program: &Command) -> Self {
        let site_name = site.root().file_name().unwrap_or_default().to_string_lossy();
        let terminal = Self { socket_name: format!("relay-test-{site_name}") };
        // The server inherits the environment of the client that starts it.
        let mut tmux = with_environment_of(program, "tmux");
        tmux.arg("-L").arg(&terminal.socket_name).args(["-f", "/dev/null", "new-session", "-d"]);
        tmux.args(["-x", &columns.to_string(), "-y", &rows.to_string(), "-c"]).arg(site.root());
        tmux.arg("--").arg(program.get_program()).args(program.get_args());
        run_tmux(&mut tmux);
        terminal
    }

    fn tmux(&self, args: &[&str]) -> Output {
        run_tmux(Command::new("tmux").arg("-L").arg(&self.socket_name).args(args))
    }

    /// Presses keys, as tmux names them: `Enter`, `Down`, `C-c`, or text.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Resizes the terminal.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Returns the content of the screen, line by line.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// Waits until `is_wanted` returns true for the content of the screen, and returns the content.
    pub fn wait_until_shown(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if is_wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{what} is not on the screen:\n{screen}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Fails harmlessly if the server has already ended.
        let _ = Command::new("tmux").arg("-L").arg(&self.socket_name).arg("kill-server").output();
        let user = rustix::process::geteuid().as_raw();
        let _ = std::fs::remove_file(format!("/tmp/tmux-{user}/{}", self.socket_name));
    }
}

/// Runs a tmux command that must succeed.
fn run_tmux(tmux: &mut Command) -> Output {
    let output = tmux.output().unwrap_or_else(|e| panic!("{tmux:?}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tmux:?}: {stderr}");
    output
}
