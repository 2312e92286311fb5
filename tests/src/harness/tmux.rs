//! A real terminal: a tmux server of its own, with one shell in it.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::{Site, programs, until};

/// A terminal in a site's root. Dropping it ends its server and whatever runs in it.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Opens one of this size, with a plain shell that finds `relay`.
    ///
    /// # Panics
    /// When tmux is missing or does not start.
    pub fn open(site: &Site, columns: u16, rows: u16) -> Self {
        let terminal = Self { socket: site.root().join("terminal") };
        let path = format!(
            "PATH={}:{}",
            programs::dir().display(),
            std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned())
        );
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let root = site.root().to_string_lossy().into_owned();
        let codex_home = format!("CODEX_HOME={}", site.codex_home().display());
        let server = ["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, "-c", &root];
        let shell = ["env", "-u", "NO_COLOR", "-u", "RELAY_ROOT", &path, &codex_home, "PS1=$ ", "sh"];
        terminal.tmux(&[&server[..], &shell].concat());
        terminal.shows("the shell's prompt", |screen| screen.starts_with('$'));
        terminal
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(args).output();
        let output = output.unwrap_or_else(|e| panic!("tmux {args:?}: {e}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {args:?}: {stderr}");
        output
    }

    /// Presses keys, as tmux names them: `Enter`, `Down`, `C-c`, or text.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Gives it another size.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What it shows, line by line.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// Waits until what it shows is as wanted, and returns it.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        until(what, || Some(self.screen()).filter(|screen| wanted(screen)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing is left to end when it has ended by itself.
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}
