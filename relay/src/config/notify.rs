//! Table `[notify]` of `relay.toml`: channels for completion notices besides the session that launched the job.

use std::path::{Path, PathBuf};

use common::event::FinalState;
use common::record::State;
use serde::Deserialize;
use toml::Spanned;

use super::serde_util::ConfigError;
use super::serde_util::DEFAULT_CODEX_PROGRAM;

/// Settings from `[notify]`, with the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Codex program that notifies sessions: a name that is looked up on the daemon's `PATH`, or a path.
    pub codex: String,
    /// True if the desktop shows notifications.
    pub notifies_desktop: bool,
    /// Program with arguments to run for each notification; empty for none.
    pub command: Vec<String>,
    /// Webhook that each notification is posted to.
    pub webhook: Option<Webhook>,
    /// Outcomes that people are notified of. Sessions are notified of every outcome.
    pub notified_states: Vec<State>,
}

/// Webhook that receives notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// URL, `http` or `https`.
    pub url: String,
    /// Secret that signs the posts; `None` for unsigned posts.
    pub secret: Option<SecretSource>,
}

/// Location of a secret. It is read at each use, as it may change while the relay runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    /// A variable of the daemon's environment.
    Variable(String),
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            codex: DEFAULT_CODEX_PROGRAM.to_owned(),
            notifies_desktop: false,
            command: Vec::new(),
            webhook: None,
            notified_states: all_end_states(),
        }
    }
}

fn all_end_states() -> Vec<State> {
    vec![State::Completed, State::Failed, State::Cancelled]
}

/// Table `[notify]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawNotify {
    codex: Option<Spanned<String>>,
    desktop: bool,
    command: Option<Spanned<Vec<String>>>,
    webhook: Option<Spanned<String>>,
    webhook_secret_file: Option<Spanned<PathBuf>>,
    webhook_secret_env: Option<Spanned<String>>,
    on: Option<Spanned<Vec<FinalState>>>,
}

impl RawNotify {
    /// Checks the table; paths are relative to the project's `root`.
    pub(super) fn resolve(self, root: &Path) -> Result<NotifyConfig, ConfigError> {
        let secret = match (self.webhook_secret_file, self.webhook_secret_env) {
            (Some(_), Some(variable)) => {
                return config_error(
                    &variable,
                    "[notify] has two secrets: keep webhook_secret_file or webhook_secret_env",
                );
            }
            (Some(file), None) => Some((file.span(), SecretSource::File(root.join(file.into_inner())))),
            (None, Some(variable)) => Some((variable.span(), SecretSource::Variable(variable.into_inner()))),
            (None, None) => None,
        };
        let webhook = match (self.webhook, secret) {
            (None, Some((range, _))) => {
                let reason = "[notify] has a webhook's secret and no webhook: add webhook = \"https://…\"";
                return Err(ConfigError { range, reason: reason.to_owned() });
            }
            (None, None) => None,
            (Some(url), secret) => {
                check_url(&url)?;
                Some(Webhook { url: url.into_inner(), secret: secret.map(|(_, source)| source) })
            }
        };
        if let Some(command) =
            self.command.as_ref().filter(|command| command.get_ref().first().is_none_or(String::is_empty))
        {
            return config_error(
                command,
                "[notify] command names no program: write command = [\"PROGRAM\", \"ARGUMENT\"]",
            );
        }
        if let Some(codex) = self.codex.as_ref().filter(|codex| codex.get_ref().is_empty()) {
            return config_error(codex, "[notify] codex names no program: write its path, or omit it");
        }
        if let Some(on) = self.on.as_ref().filter(|on| on.get_ref().is_empty()) {
            return config_error(
                on,
                "[notify] on = []: name completed, failed or cancelled, or omit it for all",
            );
        }
        let mut command = self.command.map(Spanned::into_inner).unwrap_or_default();
        if let Some(first) = command.first_mut() {
            *first = resolve_program(root, std::mem::take(first));
        }
        Ok(NotifyConfig {
            codex: self.codex.map_or_else(
                || DEFAULT_CODEX_PROGRAM.to_owned(),
                |codex| resolve_program(root, codex.into_inner()),
            ),
            notifies_desktop: self.desktop,
            command,
            webhook,
            notified_states: self
                .on
                .map_or_else(all_end_states, |on| on.into_inner().into_iter().map(State::from).collect()),
        })
    }
}

/// Resolves a program: a path is relative to the project; a name is looked up when it is run.
pub(super) fn resolve_program(root: &Path, name: String) -> String {
    if name.contains('/') { root.join(name).to_string_lossy().into_owned() } else { name }
}

fn check_url(url: &Spanned<String>) -> Result<(), ConfigError> {
    let parsed = url.get_ref().parse::<hyper::Uri>().ok();
    let http_uri = parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    match http_uri.and_then(|uri| uri.host().map(|host| !host.is_empty())) {
        Some(true) => Ok(()),
        _ => config_error(url, "[notify] webhook is not a URL: write it like https://example.org/hook"),
    }
}

fn config_error<T, O>(value: &Spanned<T>, reason: &str) -> Result<O, ConfigError> {
    Err(ConfigError { range: value.span(), reason: reason.to_owned() })
}
