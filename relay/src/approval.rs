//! Approval of settings by a person: relay starts outside of a sandbox only with approved settings.
//!
//! A session may write `platform/relay.toml`, and the relay applies it outside of every sandbox: engine, image, mounted
//! folders, programs to run. So that a session can't use the file to leave its sandbox, the approved settings are
//! stored where no session can write, and a relay starts only with them.
//!
//! ```text
//! person:          relay up (asks) │ relay up --yes │ relay init ─► STATE/relay/consent/KEY: engine, name, settings
//! other callers:   relay up │ launch │ serve │ doctor ─► same settings? ─► continue
//!                                                          └─ not the same ─► an error that names the
//!                                                                             command with which a person approves
//! ```

#![expect(clippy::disallowed_methods, reason = "the user's state folder, which no session may write")]

use std::collections::BTreeSet;
use std::env::VarError;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use common::text_format::escape_invisible;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bounded_file;
use crate::config::{self, Config, WorkerCodexConfig};
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::files::atomic::{self, Durability};
use crate::state_dir;

/// Caller that asks relay to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    /// A person, or a script of a person.
    Person,
    /// A session of Codex, Claude Code or the like, through a command or a tool of `relay mcp`.
    Session,
}

/// Settings that affect jobs only: a session may choose them.
const JOB_ONLY_SETTINGS: [&str; 2] = ["limits", "step"];
/// Version of the format of the approval file.
const SCHEMA_VERSION: u32 = 2;
/// Beginnings of the lines that are shown first: programs that run, and data that leaves the machine.
const FIRST_SHOWN_PREFIXES: [&str; 5] = ["codex.", "model.", "notify.", "engine", "workspaces"];
/// Prefix of the lines that describe certificates.
const CERTIFICATE_PREFIX: &str = "certificate ";
/// Maximum number of lines about certificates in the settings that a person is asked to approve.
const MAX_SHOWN_CERTIFICATES: usize = 5;

/// Settings for a person to approve, in a form for comparison and display. Settings with equal effects are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovableSettings {
    schema: u32,
    /// Engine of the platform.
    pub engine: EngineKind,
    /// Name of the container.
    pub name: String,
    /// Lines `key = value`, sorted.
    lines: BTreeSet<String>,
}

/// Result of a comparison with the approved settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalState {
    /// The settings are the approved ones.
    Approved,
    /// The settings differ. The lines begin with `-` (approved) or `+` (now).
    Changed(Vec<String>),
    /// No settings have been approved yet. The lines are all settings.
    New(Vec<String>),
}

impl ApprovableSettings {
    /// Builds the settings of a project on this engine.
    pub fn new(engine: EngineKind, config: &Config) -> Self {
        let mut table: toml::Table = config.text.parse().unwrap_or_default();
        for name in JOB_ONLY_SETTINGS {
            table.remove(name);
        }
        let mut lines = BTreeSet::new();
        flatten_toml("", &toml::Value::Table(table), &mut lines);
        let platform = &config.platform;
        let mut add = |key: &str, value: &str| {
            lines.insert(format!("{key} = {value}"));
        };
        add("engine", engine.as_str());
        add("workspaces (resolved)", &platform.workspaces_folder.display().to_string());
        let sandbox = serde_json::to_value(config.codex.job_settings(engine).sandbox).unwrap_or_default();
        add("codex.sandbox (in effect)", sandbox.as_str().unwrap_or_default());
        if engine.is_container() {
            if let WorkerCodexConfig::File { text, .. } = &platform.codex_config {
                add("codex.config (content)", &format!("sha256 {}", hex::encode(Sha256::digest(text))));
            }
            add("image", &platform.image);
            add("base image", &platform.base_image);
            lines.extend(certificate_lines(&platform.certs_folder));
        }
        Self { schema: SCHEMA_VERSION, engine, name: platform.name.clone(), lines }
    }

    /// Returns true if a certificate with these bytes is part of these settings.
    pub fn covers_certificate(&self, file: &Path, bytes: &[u8]) -> bool {
        self.lines.contains(&certificate_line(file, Ok(bytes)))
    }

    /// Returns a digest that identifies these settings.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for line in &self.lines {
            hash.update(line.as_bytes());
            hash.update([0]);
        }
        hex::encode(hash.finalize())
    }

    /// Returns all settings, for the first approval.
    fn all_lines(&self) -> Vec<String> {
        format_settings(self.lines.iter().map(|line| ("", line.as_str())).collect())
    }

    fn lines_changed_since(&self, approved: &Self) -> Vec<String> {
        let removed = approved.lines.difference(&self.lines).map(|line| ("- ", line.as_str()));
        let new = self.lines.difference(&approved.lines).map(|line| ("+ ", line.as_str()));
        format_settings(removed.chain(new).collect())
    }
}

/// Formats lines for a person, the most important first. Nothing is omitted, except certificates if there are many. The
/// old and the new value of a setting are adjacent.
fn format_settings(mut lines: Vec<(&str, &str)>) -> Vec<String> {
    let rank = |line: &str| {
        FIRST_SHOWN_PREFIXES
            .iter()
            .position(|key| line.starts_with(key))
            .unwrap_or(FIRST_SHOWN_PREFIXES.len())
    };
    let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    lines.sort_by_key(|(sign, line)| {
        (line.starts_with(CERTIFICATE_PREFIX), rank(line), key(line), *sign == "+ ")
    });
    let certificates = lines.iter().filter(|(_, line)| line.starts_with(CERTIFICATE_PREFIX)).count();
    let hidden_certificates = certificates.saturating_sub(MAX_SHOWN_CERTIFICATES);
    lines.truncate(lines.len() - hidden_certificates);
    let mut shown: Vec<String> =
        lines.into_iter().map(|(sign, line)| format!("{sign}{}", escape_invisible(line))).collect();
    if hidden_certificates > 0 {
        shown.push(format!("more certificates: {hidden_certificates}"));
    }
    shown
}

/// Compares the settings of the project at `root` to the approved ones.
pub fn approval_state(root: &Path, settings: &ApprovableSettings) -> ApprovalState {
    match approved_settings(root) {
        Some(approved) if approved.lines == settings.lines => ApprovalState::Approved,
        Some(approved) => ApprovalState::Changed(settings.lines_changed_since(&approved)),
        None => ApprovalState::New(settings.all_lines()),
    }
}

/// Returns the names of the settings in the lines of a change, without duplicates.
pub fn changed_names(lines: &[String]) -> Vec<&str> {
    let names = lines.iter().filter_map(|line| Some(line.get(2..)?.split_once(" = ")?.0));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the settings that were approved last for the project at `root`.
pub fn approved_settings(root: &Path) -> Option<ApprovableSettings> {
    let bytes =
        bounded_file::read_bounded(&state_dir::trusted_file(current_users_approval_path(root)?)?).ok()?;
    serde_json::from_slice(&bytes)
        .ok()
        .filter(|settings: &ApprovableSettings| settings.schema == SCHEMA_VERSION)
}

/// Stores the approval of these settings for the project at `root`.
pub fn store_approval(root: &Path, settings: &ApprovableSettings) -> Result<(), Failure> {
    let path = current_users_approval_path(root).ok_or_else(|| {
        Failure::unreachable(
            "neither XDG_STATE_HOME nor HOME is set: set one, so that your approval can be stored",
        )
    })?;
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        atomic::replace_file(&path, &serde_json::to_vec(settings)?, Durability::Synced)
    };
    write().map_err(|e| Failure::unreachable(format!("{} can't be written ({e})", path.display())))
}

/// Refuses settings that no person has approved.
pub fn require_approval(
    root: &Path,
    initiator: Initiator,
    settings: &ApprovableSettings,
) -> Result<(), Failure> {
    match approval_state(root, settings) {
        ApprovalState::Approved => Ok(()),
        ApprovalState::Changed(_) => Err(refusal(root, initiator, true, "up")),
        ApprovalState::New(_) => Err(refusal(root, initiator, false, "up")),
    }
}

/// Builds the message for a caller that can't approve. `command` is the subcommand that asks for approval.
pub fn refusal(root: &Path, initiator: Initiator, has_changed: bool, command: &str) -> Failure {
    let reason = if has_changed {
        format!("{} or the engine has changed since the settings were approved", config::CONFIG_PATH)
    } else {
        "the settings of this project have not been approved yet".to_owned()
    };
    let root = shell_words::quote(&root.to_string_lossy()).into_owned();
    Failure::unreachable(match initiator {
        Initiator::Session => {
            format!("{reason}: a person has to run `relay {command} --root {root}` in a terminal")
        }
        Initiator::Person => format!(
            "{reason}: run `relay {command} --root {root}` in a terminal, or with --yes to approve them unasked"
        ),
    })
}

/// Removes the approval for the project at `root`.
pub fn remove_approval(root: &Path) {
    if let Some(path) = current_users_approval_path(root) {
        // An approval that can't be removed permits only what a person has approved.
        let _ = fs::remove_file(path);
    }
}

fn current_users_approval_path(root: &Path) -> Option<PathBuf> {
    approval_path(root, &|name| std::env::var(name))
}

/// Returns the path of the approval for the project at `root`: in the user's state folder, where no session may write.
fn approval_path(root: &Path, variable: &dyn Fn(&str) -> Result<String, VarError>) -> Option<PathBuf> {
    Some(state_dir::user_state_dir(variable)?.join("consent").join(state_dir::project_key(root)))
}

fn flatten_toml(key: &str, value: &toml::Value, lines: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten_toml(&key, value, lines);
            }
        }
        value => {
            lines.insert(format!("{key} = {value}"));
        }
    }
}

/// Returns the certificates of a folder, each with the digest of its content.
fn certificate_lines(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "crt"));
    files.map(|path| certificate_line(&path, bounded_file::read_bounded(&path).as_deref())).collect()
}

fn certificate_line(file: &Path, bytes: Result<&[u8], &io::Error>) -> String {
    let content = match bytes {
        Ok(bytes) => format!("sha256 {}", hex::encode(Sha256::digest(bytes))),
        Err(e) => format!("unreadable ({})", e.kind()),
    };
    format!("{CERTIFICATE_PREFIX}{} = {content}", file.display())
}

#[cfg(test)]
#[path = "approval_tests.rs"]
mod tests;
