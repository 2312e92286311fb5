//! A scripted model server as a separate process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::scripted_model::write_codex_home;

use super::processes::OwnedChild;
use super::programs;

/// A running `scripted-model` process; dropping this value ends it.
#[derive(Debug)]
pub struct Model {
    _server: OwnedChild,
    base_url: String,
}

impl Model {
    /// Starts the server `program` with the scripts of `tests/scripts/`, on a free port of `address`.
    pub fn start(program: &str, address: &str) -> Self {
        Self::with_scripts(program, address, &programs::workspace().join("tests/scripts"))
    }

    /// Starts the server `program` with the scripts of the folder `scripts`.
    pub fn with_scripts(program: &str, address: &str, scripts: &Path) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", &format!("{address}:0"), "--scripts"])
            .arg(scripts)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        let mut base_url = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut base_url);
        }
        assert!(base_url.starts_with("http"), "the scripted model said {base_url:?}");
        Self { _server: OwnedChild(child), base_url: base_url.trim().to_owned() }
    }

    /// Makes `dir` a `CODEX_HOME` that uses this server.
    pub fn write_codex_home(&self, dir: &Path) {
        write_codex_home(dir, &self.base_url).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    }
}
