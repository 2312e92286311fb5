//! The model's server, as the user's Codex is configured for it.

#![expect(clippy::disallowed_methods, reason = "the user's own folder, which no session may write")]

use std::path::PathBuf;

use super::secret::Secret;

/// The model's server.
#[derive(Debug)]
pub(in crate::daemon) struct Upstream {
    /// Host and port.
    pub(super) address: String,
    /// Path of the API, without a slash at its end.
    pub(super) path: String,
    pub(super) key: Option<Secret>,
}

impl Upstream {
    /// Reads address and key from the settings of the user's Codex and from the environment.
    ///
    /// # Errors
    /// One line with the reason.
    pub(in crate::daemon) fn from_codex_settings() -> Result<Self, String> {
        let home = std::env::var_os("CODEX_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".codex")));
        let path = home.ok_or("Codex's home is unknown: set HOME")?.join("config.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let config: toml::Table =
            text.parse().map_err(|_| format!("{} is not valid TOML: correct it", path.display()))?;
        let provider = config.get("model_provider").and_then(toml::Value::as_str).unwrap_or("openai");
        let settings = config.get("model_providers").and_then(|providers| providers.get(provider));
        let setting = |name: &str| settings?.get(name)?.as_str();
        let url = setting("base_url").and_then(|url| url.strip_prefix("http://"));
        let url = url.ok_or_else(|| format!("the gateway can't use the model provider {provider} yet"))?;
        let (address, path) = url.split_once('/').unwrap_or((url, ""));
        let variable = |name: &str| std::env::var(name).ok().filter(|key| !key.is_empty());
        let key = match setting("env_key") {
            Some(name) => Some(
                variable(name).ok_or_else(|| format!("{name} has no value: set it, then `relay restart`"))?,
            ),
            None => variable("CODEX_API_KEY").or_else(|| variable("OPENAI_API_KEY")),
        };
        let path = format!("/{}", path.trim_end_matches('/'));
        Ok(Self { address: address.to_owned(), path, key: key.map(Secret::new) })
    }
}
