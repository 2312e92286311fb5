//! Settings that a person has approved: no others are started outside of a sandbox.
//!
//! A session may write `platform/relay.toml`, and the relay applies it outside of every sandbox: engine, image, mounted
//! folders, programs to run. To keep the file from being a way out, the approved settings are stored where no sandbox
//! lets a session write, and a relay is started with no others.
//!
//! ```text
//! person:          relay up (asks) │ relay up --yes │ relay init ─► STATE/relay/consent/KEY: engine, name, settings
//! other callers:   relay up │ launch │ serve │ doctor ─► same settings? ─► continue │ an error that asks a person
//! ```

#![expect(clippy::disallowed_methods, reason = "the person's own state, which no session may write")]

use std::collections::BTreeSet;
use std::env::VarError;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use common::text::escaped;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bounded_file;
use crate::config::{self, Config};
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::files::atomic::{self, Durability};
use crate::state_dir;

/// Party that requests a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    /// A person, or a script of theirs.
    Person,
    /// A session of a host agent, through a command or a tool.
    Session,
}

/// Settings that affect jobs only: a session may choose them.
const HARMLESS: [&str; 2] = ["limits", "step"];
/// Version of the file.
const SCHEMA: u32 = 2;
/// Settings shown first: programs that run, and data that leaves the machine.
const FOREMOST: [&str; 4] = ["codex.", "notify.", "engine", "workspaces"];
/// Prefix of the lines of certificates, of which there may be many.
const CERTIFICATE: &str = "certificate ";
/// Maximum number of certificates shown.
const MAX_CERTIFICATES: usize = 5;

/// Settings in a form that can be compared and shown: equal for equal effects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    schema: u32,
    /// Engine of the platform.
    pub engine: EngineKind,
    /// Name of the container.
    pub name: String,
    /// `key = value`, sorted.
    lines: BTreeSet<String>,
}

/// Settings compared to the approved ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalState {
    /// Equal.
    Agreed,
    /// Different: lines that begin with `-` (approved) or `+` (now).
    Changed(Vec<String>),
    /// No settings were approved yet.
    New(Vec<String>),
}

impl Settings {
    /// Returns the settings of a project on this engine.
    pub fn new(engine: EngineKind, config: &Config) -> Self {
        let mut table: toml::Table = config.text.parse().unwrap_or_default();
        for name in HARMLESS {
            table.remove(name);
        }
        let mut lines = BTreeSet::new();
        flatten("", &toml::Value::Table(table), &mut lines);
        let platform = &config.platform;
        let mut add = |key: &str, value: &str| {
            lines.insert(format!("{key} = {value}"));
        };
        add("engine", engine.as_str());
        add("workspaces (resolved)", &platform.workspaces.display().to_string());
        let sandbox = serde_json::to_value(config.codex.settings(engine).sandbox).unwrap_or_default();
        add("codex.sandbox (in effect)", sandbox.as_str().unwrap_or_default());
        if engine.is_container() {
            add("image", &platform.image);
            add("base image", &platform.base);
            lines.extend(certificates(&platform.certs));
        }
        Self { schema: SCHEMA, engine, name: platform.name.clone(), lines }
    }

    /// Returns true if a certificate with these bytes is part of these settings.
    pub fn covers_certificate(&self, file: &Path, bytes: &[u8]) -> bool {
        self.lines.contains(&certificate(file, Ok(bytes)))
    }

    /// Digest that identifies these settings.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for line in &self.lines {
            hash.update(line.as_bytes());
            hash.update([0]);
        }
        hex::encode(hash.finalize())
    }

    /// Returns all settings, for a person who has not approved any yet.
    fn all(&self) -> Vec<String> {
        shown(self.lines.iter().map(|line| ("", line.as_str())).collect())
    }

    fn changed_since(&self, agreed: &Self) -> Vec<String> {
        let gone = agreed.lines.difference(&self.lines).map(|line| ("- ", line.as_str()));
        let new = self.lines.difference(&agreed.lines).map(|line| ("+ ", line.as_str()));
        shown(gone.chain(new).collect())
    }
}

/// Formats lines for a person: complete, with nothing hidden, the most important first. Only certificates are counted
/// if there are many. A setting's old and new value are adjacent.
fn shown(mut lines: Vec<(&str, &str)>) -> Vec<String> {
    let rank = |line: &str| FOREMOST.iter().position(|key| line.starts_with(key)).unwrap_or(FOREMOST.len());
    let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    lines.sort_by_key(|(sign, line)| (line.starts_with(CERTIFICATE), rank(line), key(line), *sign == "+ "));
    let certificates = lines.iter().filter(|(_, line)| line.starts_with(CERTIFICATE)).count();
    let left_out = certificates.saturating_sub(MAX_CERTIFICATES);
    lines.truncate(lines.len() - left_out);
    let mut shown: Vec<String> =
        lines.into_iter().map(|(sign, line)| format!("{sign}{}", escaped(line))).collect();
    if left_out > 0 {
        shown.push(format!("more certificates: {left_out}"));
    }
    shown
}

/// Compares these settings to the approved ones.
pub fn state(root: &Path, settings: &Settings) -> ApprovalState {
    match agreed(root) {
        Some(agreed) if agreed.lines == settings.lines => ApprovalState::Agreed,
        Some(agreed) => ApprovalState::Changed(settings.changed_since(&agreed)),
        None => ApprovalState::New(settings.all()),
    }
}

/// Names of the settings in the lines of a change, each once.
pub fn changed(lines: &[String]) -> Vec<&str> {
    let names = lines.iter().filter_map(|line| Some(line.get(2..)?.split_once(" = ")?.0));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the settings approved last.
pub fn agreed(root: &Path) -> Option<Settings> {
    let bytes = bounded_file::read(&state_dir::own(place_here(root)?)?).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|settings: &Settings| settings.schema == SCHEMA)
}

/// Stores the approval of these settings.
pub fn record(root: &Path, settings: &Settings) -> Result<(), Failure> {
    let place = place_here(root).ok_or_else(|| {
        Failure::unreachable(
            "neither XDG_STATE_HOME nor HOME is set: set one, so that your approval can be stored",
        )
    })?;
    let write = || -> io::Result<()> {
        if let Some(folder) = place.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        atomic::replace(&place, &serde_json::to_vec(settings)?, Durability::Synced)
    };
    write().map_err(|e| Failure::unreachable(format!("{} can't be written ({e})", place.display())))
}

/// Refuses settings that no person has approved.
pub fn check(root: &Path, initiator: Initiator, settings: &Settings) -> Result<(), Failure> {
    match state(root, settings) {
        ApprovalState::Agreed => Ok(()),
        ApprovalState::Changed(_) => Err(refusal(root, initiator, true)),
        ApprovalState::New(_) => Err(refusal(root, initiator, false)),
    }
}

/// Builds the message for a party that can't approve.
pub fn refusal(root: &Path, initiator: Initiator, has_changed: bool) -> Failure {
    let what = if has_changed {
        format!("{} or the engine has changed since the settings were approved", config::FILE)
    } else {
        "the settings of this project have not been approved yet".to_owned()
    };
    let root = shell_words::quote(&root.to_string_lossy()).into_owned();
    Failure::unreachable(match initiator {
        Initiator::Session => {
            format!("{what}: a person has to run `relay up --root {root}` in a terminal")
        }
        Initiator::Person => format!(
            "{what}: run `relay up --root {root}` in a terminal, or with --yes to approve them unasked"
        ),
    })
}

/// Removes the approval.
pub fn forget(root: &Path) {
    if let Some(place) = place_here(root) {
        // An approval that can't be removed permits no more than a person once approved.
        let _ = fs::remove_file(place);
    }
}

fn place_here(root: &Path) -> Option<PathBuf> {
    place(root, &|name| std::env::var(name))
}

/// Path of the approval for the project at `root`: in the person's state, where no session may write.
fn place(root: &Path, variable: &dyn Fn(&str) -> Result<String, VarError>) -> Option<PathBuf> {
    Some(state_dir::base(variable)?.join("consent").join(state_dir::key(root)))
}

fn flatten(key: &str, value: &toml::Value, lines: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, lines);
            }
        }
        value => {
            lines.insert(format!("{key} = {value}"));
        }
    }
}

/// Returns the certificates of a folder, each with the digest of its content.
fn certificates(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "crt"));
    files.map(|path| certificate(&path, bounded_file::read(&path).as_deref())).collect()
}

fn certificate(file: &Path, bytes: Result<&[u8], &io::Error>) -> String {
    let content = match bytes {
        Ok(bytes) => format!("sha256 {}", hex::encode(Sha256::digest(bytes))),
        Err(e) => format!("unreadable ({})", e.kind()),
    };
    format!("{CERTIFICATE}{} = {content}", file.display())
}

#[cfg(test)]
#[path = "approval_tests.rs"]
mod tests;
