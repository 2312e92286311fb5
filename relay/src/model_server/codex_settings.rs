//! Settings of the model's server, from the user's own Codex: `config.toml`, `auth.json` and the environment. Workers
//! get none of them. No error contains a value.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use common::wire::RetrySettings;
use serde::Deserialize;

use super::chatgpt_login::AuthFile;
use super::settings::{LoginSettings, ModelApi, UpstreamSettings};
use crate::bounded_file::read_bounded;
use crate::secret::Secret;

const AUTH_FILE: &str = "auth.json";
const OPENAI: &str = "openai";
const OPENAI_URL: &str = "https://api.openai.com/v1";
/// Server of the provider `openai` for an account of `ChatGPT`.
const CHATGPT_URL: &str = "https://chatgpt.com/backend-api/codex";
/// Token endpoint of `ChatGPT` logins, and the variable with which Codex and relay use another one.
const REFRESH_URL: &str = "https://auth.openai.com/oauth/token";
const REFRESH_URL_VARIABLE: &str = "CODEX_REFRESH_TOKEN_URL_OVERRIDE";
/// Providers that Codex knows for servers on this machine, with their addresses.
const LOCAL_PROVIDERS: [(&str, &str); 2] =
    [("ollama", "http://localhost:11434/v1"), ("lmstudio", "http://localhost:1234/v1")];
/// Headers of the provider `openai` that come from variables.
const OPENAI_VARIABLES: [(&str, &str); 2] =
    [("OpenAI-Organization", "OPENAI_ORGANIZATION"), ("OpenAI-Project", "OPENAI_PROJECT")];

/// Parts of the addresses that Codex takes for Azure (`codex-api`, `is_azure_responses_wire_base_url`).
const AZURE_ADDRESSES: [&str; 6] = [
    "openai.azure.",
    "cognitiveservices.azure.",
    "aoai.azure.",
    "azure-api.",
    "azurefd.",
    "windows.net/openai",
];

/// Reason why the user's Codex has no settings for the gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A file can't be read.
    #[error("{path} can't be read: {reason}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Kind of the error.
        reason: io::ErrorKind,
    },
    /// `config.toml` can't be parsed, or a setting of the provider has the wrong type.
    #[error("the config.toml of codex has an error in line {0}: correct it, or turn the gateway off")]
    Invalid(usize),
    /// The provider is not defined.
    #[error("the config.toml of codex names the model provider {0:?} and does not define it")]
    UnknownProvider(String),
    /// The provider has no address.
    #[error("the model provider {0:?} of codex has no base_url")]
    NoBaseUrl(String),
    /// The provider needs something that the gateway can't do.
    #[error(
        "the model provider {provider:?} uses {setting}, which the gateway can't do: turn the gateway off"
    )]
    Unsupported {
        /// Name of the provider.
        provider: String,
        /// Setting of the provider.
        setting: &'static str,
    },
    /// A variable with the key is not set.
    #[error(
        "the model provider {provider:?} takes its key from {variable}, which is not set: set it before `relay up`"
    )]
    NoVariable {
        /// Name of the provider.
        provider: String,
        /// Name of the variable.
        variable: String,
    },
    /// There is no key.
    #[error(
        "there is no key for the model: set CODEX_API_KEY before `relay up`, or log in with `codex login`"
    )]
    NoKey,
}

/// The part of `config.toml` that says where the model is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct CodexConfig {
    model: Option<String>,
    model_provider: Option<String>,
    model_providers: BTreeMap<String, Provider>,
    openai_base_url: Option<String>,
    service_tier: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Provider {
    name: Option<String>,
    base_url: Option<String>,
    wire_api: Option<String>,
    env_key: Option<String>,
    experimental_bearer_token: Option<String>,
    requires_openai_auth: bool,
    http_headers: BTreeMap<String, String>,
    env_http_headers: BTreeMap<String, String>,
    query_params: BTreeMap<String, String>,
    request_max_retries: Option<u64>,
    stream_max_retries: Option<u64>,
    stream_idle_timeout_ms: Option<u64>,
    auth: Option<toml::Value>,
    aws: Option<toml::Value>,
}

impl UpstreamSettings {
    /// Reads the settings of the user's Codex. `variable` looks up the environment.
    ///
    /// # Errors
    /// Returns an error if Codex has no server or key that the gateway can use.
    pub fn of_codex(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let home = codex_home(variable);
        let read =
            |name: &str| home.as_ref().map_or(Ok(Vec::new()), |home| read_if_present(&home.join(name)));
        resolve(&read("config.toml")?, &read(AUTH_FILE)?, variable)
    }

    /// Reads the model that the user's Codex uses if a job names none, also if Codex has no key.
    pub fn default_model() -> Option<String> {
        let variable = |name: &str| std::env::var(name).ok();
        let config = read_if_present(&codex_home(&variable)?.join("config.toml")).ok()?;
        parse_config(&config).ok()?.model
    }

    /// Reads the current settings of the user's Codex, from its files and this process's environment.
    ///
    /// # Errors
    /// One line with the reason and what helps.
    pub fn of_this_process() -> Result<Self, String> {
        Self::of_codex(&|name| std::env::var(name).ok()).map_err(|e| e.to_string())
    }
}

fn codex_home(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let home = variable("CODEX_HOME").map(PathBuf::from);
    home.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".codex")))
}

fn read_if_present(path: &Path) -> Result<Vec<u8>, SettingsError> {
    match read_bounded(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(SettingsError::Unreadable { path: path.to_owned(), reason: e.kind() }),
        Ok(bytes) => Ok(bytes),
    }
}

fn resolve(
    config: &[u8],
    auth: &[u8],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<UpstreamSettings, SettingsError> {
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let mut config = parse_config(config)?;
    let name = config.model_provider.take().unwrap_or_else(|| OPENAI.to_owned());
    let (model, service_tier) = (config.model.take(), config.service_tier.take());
    let (provider, url) = find_provider(config, &name)?;
    check_supported(&provider, &name)?;
    let (key, login) = match (&provider.env_key, &provider.experimental_bearer_token) {
        (Some(key), _) => {
            let missing = || SettingsError::NoVariable { provider: name.clone(), variable: key.clone() };
            (Some(variable(key).ok_or_else(missing)?), None)
        }
        (None, Some(token)) => (Some(token.clone()), None),
        (None, None) if provider.requires_openai_auth => openai_credentials(auth, &variable)?,
        (None, None) => (None, None),
    };
    let default_url = if login.is_some() { CHATGPT_URL } else { OPENAI_URL };
    let base_url = url.unwrap_or_else(|| default_url.to_owned());
    let retries = RetrySettings {
        request_max_retries: provider.request_max_retries,
        stream_max_retries: provider.stream_max_retries,
        stream_idle_timeout_ms: provider.stream_idle_timeout_ms,
    };
    let from_variables = provider
        .env_http_headers
        .into_iter()
        .filter_map(|(header, name)| variable(&name).map(|value| (header, value)));
    let headers = provider.http_headers.into_iter().chain(from_variables);
    let is_azure = is_azure(provider.name.as_deref(), &base_url);
    Ok(UpstreamSettings {
        api: ModelApi::Responses,
        base_url,
        key: key.map(Secret::new),
        login,
        headers: headers.map(|(header, value)| (header, Secret::new(value))).collect(),
        query: provider.query_params.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
        retries,
        model,
        service_tier,
        is_azure,
    })
}

/// Returns true for a server of Azure, which Codex finds by the provider's name or a part of its address.
fn is_azure(name: Option<&str>, base_url: &str) -> bool {
    let url = base_url.to_ascii_lowercase();
    name.is_some_and(|name| name.eq_ignore_ascii_case("azure"))
        || AZURE_ADDRESSES.iter().any(|part| url.contains(part))
}

fn parse_config(config: &[u8]) -> Result<CodexConfig, SettingsError> {
    let text = std::str::from_utf8(config).map_err(|_| SettingsError::Invalid(1))?;
    // The parser's own words may quote a value.
    toml::from_str(text).map_err(|e: toml::de::Error| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        SettingsError::Invalid(before.matches('\n').count() + 1)
    })
}

/// Returns a provider and its address. Codex's own providers can't be defined again. The default address of `openai`
/// depends on the login.
fn find_provider(mut config: CodexConfig, name: &str) -> Result<(Provider, Option<String>), SettingsError> {
    if name == OPENAI {
        let url = config.openai_base_url.take();
        let variables = OPENAI_VARIABLES.map(|(header, name)| (header.to_owned(), name.to_owned()));
        let env_http_headers = variables.into_iter().collect();
        return Ok((Provider { requires_openai_auth: true, env_http_headers, ..Provider::default() }, url));
    }
    if let Some((_, url)) = LOCAL_PROVIDERS.iter().find(|(local, _)| *local == name) {
        return Ok((Provider::default(), Some((*url).to_owned())));
    }
    let defined = config.model_providers.remove(name);
    let mut provider = defined.ok_or_else(|| SettingsError::UnknownProvider(name.to_owned()))?;
    let url = provider.base_url.take().ok_or_else(|| SettingsError::NoBaseUrl(name.to_owned()))?;
    Ok((provider, Some(url)))
}

fn check_supported(provider: &Provider, name: &str) -> Result<(), SettingsError> {
    let is_other_api = provider.wire_api.as_ref().is_some_and(|api| api != "responses");
    let settings = [
        ("another wire_api than \"responses\"", is_other_api),
        ("a command that prints the key (auth)", provider.auth.is_some()),
        ("the credentials of AWS (aws)", provider.aws.is_some()),
    ];
    match settings.into_iter().find(|(_, is_used)| *is_used) {
        Some((setting, _)) => Err(SettingsError::Unsupported { provider: name.to_owned(), setting }),
        None => Ok(()),
    }
}

/// Returns the user's key of `OpenAI` or `ChatGPT` login, from the places in which `codex exec` finds it, and from
/// `OPENAI_API_KEY`, which Codex ignores and so does not precede a login.
fn openai_credentials(
    auth: &[u8],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Option<String>, Option<LoginSettings>), SettingsError> {
    if let Some(key) = variable("CODEX_API_KEY") {
        return Ok((Some(key), None));
    }
    let auth = AuthFile::parse(auth);
    if auth.uses_chatgpt() {
        let auth_file = codex_home(variable).unwrap_or_default().join(AUTH_FILE);
        let refresh_url = variable(REFRESH_URL_VARIABLE).unwrap_or_else(|| REFRESH_URL.to_owned());
        return Ok((None, Some(LoginSettings { auth_file, refresh_url })));
    }
    let key = variable("OPENAI_API_KEY").or_else(|| auth.key().map(str::to_owned));
    Ok((Some(key.ok_or(SettingsError::NoKey)?), None))
}

#[cfg(test)]
#[path = "codex_settings_tests.rs"]
mod tests;
