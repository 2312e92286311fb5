//! Sessions of a host agent: the real Codex with relay's hooks, in a site, with a separate scripted model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Site, programs};
use crate::scripted_model::{Script, ScriptedModel, codex_home};

/// A model server and the `CODEX_HOME` of the sessions that it serves. The server ends when this is dropped.
#[derive(Debug)]
pub struct Host {
    model: Arc<ScriptedModel>,
    home: PathBuf,
    end: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Host {
    /// Starts a model server with these scripts, and installs `relay hook` for these events.
    pub fn new(site: &Site, scripts: Vec<Script>, hooks: &[&str]) -> Self {
        let (started, wait) = std::sync::mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        let server = std::thread::spawn(move || serve(scripts, &started, ended));
        let model = wait.recv().unwrap_or_else(|e| panic!("no scripted model: {e}"));
        let home = site.root().join("host-codex-home");
        let written = codex_home(&home, &model.base_url())
            .and_then(|()| fs::write(home.join("hooks.json"), hooks_json(hooks).to_string()));
        written.unwrap_or_else(|e| panic!("{}: {e}", home.display()));
        Self { model, home, end: Some(end), server: Some(server) }
    }

    /// Runs `codex exec` in the site to its end.
    pub fn exec(&self, site: &Site, prompt: &str) -> Output {
        let mut codex = self.codex(site);
        codex.args(["exec", "--skip-git-repo-check", prompt]).stdin(Stdio::null());
        let output = codex.output().unwrap_or_else(|e| panic!("codex exec: {e}"));
        assert!(output.status.success(), "codex exec: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Flags of every session: hooks are trusted, and there is no sandbox, because the machine of the tests may not
    /// support one; hooks run outside of it anyway.
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

    /// Returns the texts of each request to the model so far, each prefixed by the role of its message: `developer: …`.
    pub fn requests(&self) -> Vec<Vec<String>> {
        self.model.seen().iter().map(|seen| texts(&seen.body)).collect()
    }

    /// Adds to the sessions' configuration.
    pub fn configure(&self, more: &str) {
        let path = self.home.join("config.toml");
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, format!("{text}\n{more}\n")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Serves until `ended`.
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
    let hook = |event: &str| json!([{"hooks": [{"type": "command", "command": format!("{} hook {event}", relay.display()), "timeout": 10}]}]);
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
