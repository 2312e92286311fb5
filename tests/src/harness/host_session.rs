//! Sessions of a host agent: the real Codex with relay's hooks, in a site, with a separate scripted model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Site, programs};
use crate::scripted_model::{Script, ScriptedModel, write_codex_home};

/// A model server, and the `CODEX_HOME` of the sessions that use it. Dropping this value ends the server.
#[derive(Debug)]
pub struct Host {
    model: Arc<ScriptedModel>,
    home: PathBuf,
    end_signal: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Host {
    /// Starts a model server with `scripts`, and installs `relay hook` for the events `hooks`.
    pub fn new(site: &Site, scripts: Vec<Script>, hooks: &[&str]) -> Self {
        let (started, wait) = std::sync::mpsc::sync_channel(1);
        let (end_signal, ended) = oneshot::channel();
        let server = std::thread::spawn(move || serve(scripts, &started, ended));
        let model = wait.recv().unwrap_or_else(|e| panic!("no scripted model: {e}"));
        let home = site.root().join("host-codex-home");
        let written = write_codex_home(&home, &model.base_url())
            .and_then(|()| fs::write(home.join("hooks.json"), hooks_json(hooks).to_string()));
        written.unwrap_or_else(|e| panic!("{}: {e}", home.display()));
        Self { model, home, end_signal: Some(end_signal), server: Some(server) }
    }

    /// Runs `codex exec` in the site to its end.
    pub fn exec(&self, site: &Site, prompt: &str) -> Output {
        let mut codex = self.codex(site);
        codex.args(["exec", "--skip-git-repo-check", prompt]).stdin(Stdio::null());
        let output = codex.output().unwrap_or_else(|e| panic!("codex exec: {e}"));
        assert!(output.status.success(), "codex exec: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Flags of every session. Hooks are trusted. There is no sandbox, because the machine of the tests may not support
    /// one; hooks run outside of the sandbox anyway.
    pub const ARGUMENTS: [&str; 2] =
        ["--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust"];

    /// Returns a `codex` command in the site.
    pub fn codex(&self, site: &Site) -> Command {
        let mut codex = site.environment(Command::new(programs::codex()));
        codex.env("CODEX_HOME", &self.home).current_dir(site.root());
        codex.args(Self::ARGUMENTS);
        codex
    }

    /// Returns the sessions' `CODEX_HOME`.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the message texts of each request to the model so far. Each text begins with the role of its message:
    /// `developer: …`.
    pub fn requests(&self) -> Vec<Vec<String>> {
        self.model.requests().iter().map(|request| texts(&request.body)).collect()
    }

    /// Appends TOML to the sessions' `config.toml`.
    pub fn configure(&self, toml: &str) {
        let path = self.home.join("config.toml");
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, format!("{text}\n{toml}\n")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(end_signal) = self.end_signal.take() {
            let _ = end_signal.send(());
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Runs a model server until `ended` is received; sends the server to `started`.
fn serve(
    scripts: Vec<Script>,
    started: &std::sync::mpsc::SyncSender<Arc<ScriptedModel>>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let Ok(model) = ScriptedModel::start(scripts.into_iter().collect()).await else { return };
        let model = Arc::new(model);
        let _ = started.send(Arc::clone(&model));
        let _ = ended.await;
    });
}

fn hooks_json(events: &[&str]) -> Value {
    let relay = programs::dir().join("relay");
    // Codex ends a hook that takes longer, and the session goes on without its notice.
    let hook = |event: &str| json!([{"hooks": [{"type": "command", "command": format!("{} hook {event}", relay.display()), "timeout": 120}]}]);
    let hooks = events.iter().map(|event| ((*event).to_owned(), hook(event)));
    json!({"hooks": hooks.collect::<serde_json::Map<_, _>>()})
}

fn texts(body: &Value) -> Vec<String> {
    let items = body["input"].as_array().map_or(&[][..], Vec::as_slice);
    let messages = items.iter().filter(|item| item["type"] == "message");
    let text = |item: &Value| {
        let parts = item["content"].as_array().map_or(&[][..], Vec::as_slice);
        let text: String = parts.iter().filter_map(|part| part["text"].as_str()).collect();
        format!("{}: {text}", item["role"].as_str().unwrap_or_default())
    };
    messages.map(text).collect()
}
