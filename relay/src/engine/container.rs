//! Engines `docker` and `podman`, through their commands.

#![expect(clippy::disallowed_methods, reason = "the person's own files")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::EngineKind;
use super::agent_config::AgentConfig;
use super::command::{feed, not_installed, output};
use crate::config::PlatformConfig;

/// The agent's state inside the container, on a volume.
const STATE: &str = "/var/lib/worker-agent";
/// Codex's home inside the container, on a volume.
const CODEX_HOME: &str = "/home/worker/.codex";
/// The host's name inside the container.
pub const HOST_NAME: &str = "host.docker.internal";
/// Marks the container as this registry's.
const LABEL: &str = "relay.registry";
/// Marks what the container was made with, so that another setting makes a new one.
const LABEL_MOUNT: &str = "relay.workspaces";

/// One platform container.
pub struct Container<'a> {
    /// `docker` or `podman`.
    pub engine: EngineKind,
    /// What is configured.
    pub platform: &'a PlatformConfig,
    /// The registry that it works for.
    pub registry: &'a Path,
}

/// What `inspect` tells of a container.
struct Found {
    running: bool,
    image: String,
    labels: BTreeMap<String, String>,
}

impl Container<'_> {
    /// Checks that the engine answers and has the image.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do.
    pub fn check(&self) -> Result<(), String> {
        self.query(&["version", "--format", "{{.Server.Version}}"])
            .or_else(|reason| {
                // Podman without a service has no server part.
                if self.engine == EngineKind::Podman { self.query(&["version"]) } else { Err(reason) }
            })
            .map_err(|reason| {
                let engine = self.engine;
                format!("{engine} does not answer ({reason}): start it, or use `relay up --engine local`")
            })?;
        self.image_id().map(|_| ())
    }

    fn image_id(&self) -> Result<String, String> {
        self.query(&["image", "inspect", "--format", "{{.Id}}", &self.platform.image]).map_err(|_| {
            format!("image {} is missing: build it with `relay up --build`", self.platform.image)
        })
    }

    /// The address under which the container reaches this host, where it is this machine's own (Linux). Asked of the
    /// container: the network itself does not always tell.
    pub fn gateway(&self) -> Option<IpAddr> {
        let format = "{{range .NetworkSettings.Networks}}{{.Gateway}} {{end}}";
        let answer = self.query(&["container", "inspect", "--format", format, &self.platform.name]).ok()?;
        answer.split_whitespace().find_map(|word| word.parse().ok())
    }

    /// Makes sure that the container runs, and configures its agent.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do.
    pub fn ensure(&self, config: &AgentConfig) -> Result<(), String> {
        self.check()?;
        // The engine would make a missing folder as root's.
        fs::create_dir_all(&self.platform.workspaces)
            .map_err(|e| format!("{}: {e}", self.platform.workspaces.display()))?;
        match self.find()? {
            None => self.create()?,
            Some(found) => self.reuse(&found)?,
        }
        self.fill_codex_home();
        let mut exec = self.command(&["exec", "-i", "-u", "root", &self.platform.name]);
        exec.args(["worker-agent", "configure", "--state", STATE]);
        let config = serde_json::to_vec(config).map_err(|e| e.to_string())?;
        feed(&mut exec, &config).map_err(|e| {
            let (engine, name) = (self.engine, &self.platform.name);
            format!("the agent in '{name}' could not be configured ({e}): see `{engine} logs {name}`")
        })
    }

    fn reuse(&self, found: &Found) -> Result<(), String> {
        let name = &self.platform.name;
        let owner = found.labels.get(LABEL).map_or("nobody", String::as_str);
        if Path::new(owner) != self.registry {
            return Err(format!(
                "container '{name}' belongs to {owner}: remove it, or set [platform] name in platform/relay.toml"
            ));
        }
        let mount = found.labels.get(LABEL_MOUNT).map(PathBuf::from);
        if found.image != self.image_id()? || mount.as_deref() != Some(&self.platform.workspaces) {
            self.query(&["rm", "-f", name])?;
            return self.create();
        }
        if found.running { Ok(()) } else { self.query(&["start", name]).map(|_| ()) }
    }

    fn create(&self) -> Result<(), String> {
        let name = &self.platform.name;
        let mut run = self.command(&["run", "--detach", "--name", name]);
        run.args(["--label", &format!("{LABEL}={}", self.registry.display())])
            .args(["--label", &format!("{LABEL_MOUNT}={}", self.platform.workspaces.display())])
            .args(["--add-host", &format!("{HOST_NAME}:host-gateway")])
            .args([
                "--volume",
                &format!("{}:{}", self.platform.workspaces.display(), super::workspace::MOUNT),
            ])
            .args(["--volume", &format!("{name}-codex-home:{CODEX_HOME}")])
            .args(["--volume", &format!("{name}-agent:{STATE}")])
            .arg(&self.platform.image);
        output(&mut run).map(|_| ()).map_err(|e| format!("{} could not run '{name}': {e}", self.engine))
    }

    /// Ends the container and its workers; its volumes stay.
    ///
    /// # Errors
    /// The engine's last words.
    pub fn stop(&self) -> Result<(), String> {
        let ours = self.find()?.is_some_and(|found| {
            found.labels.get(LABEL).is_some_and(|owner| Path::new(owner) == self.registry)
        });
        if !ours {
            return Ok(());
        }
        self.query(&["stop", "--time", "10", &self.platform.name])?;
        self.query(&["rm", "-f", &self.platform.name]).map(|_| ())
    }

    fn find(&self) -> Result<Option<Found>, String> {
        let format = "{{.State.Running}} {{.Image}} {{json .Config.Labels}}";
        let answer = match self.query(&["container", "inspect", "--format", format, &self.platform.name]) {
            Ok(answer) => answer,
            Err(reason) if reason.to_lowercase().contains("no such container") => return Ok(None),
            Err(reason) => return Err(format!("{}: {reason}", self.engine)),
        };
        let mut words = answer.splitn(3, ' ');
        let running = words.next() == Some("true");
        let image = words.next().unwrap_or_default().to_owned();
        let labels = words.next().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        Ok(Some(Found { running, image, labels }))
    }

    /// Copies the host's Codex settings, and its login only when that is an API key: a copied `ChatGPT` login would
    /// rotate the refresh token and log the host out. Without settings the image's defaults hold.
    fn fill_codex_home(&self) {
        let Some(home) = codex_home() else { return };
        for name in ["config.toml", "auth.json"] {
            let Ok(bytes) = fs::read(home.join(name)) else { continue };
            if name == "auth.json" && !holds_api_key(&bytes) {
                continue;
            }
            let mut exec = self.command(&["exec", "-i", "-u", "worker", &self.platform.name]);
            exec.args(["sh", "-c", &format!("umask 077; cat >{CODEX_HOME}/{name}")]);
            if let Err(e) = feed(&mut exec, &bytes) {
                tracing::warn!("{name} was not copied into the container: {e}");
            }
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.engine.as_str());
        command.args(args);
        command
    }

    pub(super) fn query(&self, args: &[&str]) -> Result<String, String> {
        output(&mut self.command(args)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => not_installed(self.engine, &e),
            _ => e.to_string(),
        })
    }
}

fn codex_home() -> Option<PathBuf> {
    std::env::var_os("CODEX_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".codex")))
}

fn holds_api_key(auth: &[u8]) -> bool {
    let auth: serde_json::Value = serde_json::from_slice(auth).unwrap_or_default();
    let key = auth.get("OPENAI_API_KEY").and_then(serde_json::Value::as_str);
    key.is_some_and(|key| !key.is_empty()) && auth.get("tokens").is_none_or(serde_json::Value::is_null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_login_by_key_is_copied() {
        assert!(holds_api_key(br#"{"OPENAI_API_KEY":"sk-1"}"#));
        for other in [&br#"{"tokens":{"refresh_token":"x"}}"#[..], br#"{"OPENAI_API_KEY":null}"#, b"garbage"]
        {
            assert!(!holds_api_key(other));
        }
        assert!(!holds_api_key(br#"{"OPENAI_API_KEY":"sk-1","tokens":{"refresh_token":"x"}}"#));
    }
}
