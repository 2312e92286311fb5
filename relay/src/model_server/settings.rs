//! Settings of the model's server.

use std::path::PathBuf;

use common::wire::RetrySettings;

use crate::secret::Secret;

/// API of a model's server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelApi {
    /// Responses API, which Codex uses.
    #[default]
    Responses,
    /// Anthropic's Messages API, which Claude Code uses.
    Messages,
}

/// Settings of the model's server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// API of the server.
    pub api: ModelApi,
    /// URL of the API, without its endpoints' paths: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Key, sent in the header of the API; `None` for a server without keys.
    pub key: Option<Secret>,
    /// `ChatGPT` login that is used in place of a key.
    pub login: Option<LoginSettings>,
    /// Further headers of each request.
    pub headers: Vec<(String, Secret)>,
    /// Parameters of each request's URL. A value may be a key.
    pub query: Vec<(String, Secret)>,
    /// Settings about retries, for the worker's Codex.
    pub retries: RetrySettings,
    /// Model that Codex uses if a job names none.
    pub model: Option<String>,
    /// Processing tier that Codex asks for.
    pub service_tier: Option<String>,
    /// True for a server of Azure, for which Codex shapes its requests differently.
    pub is_azure: bool,
}

/// Places of a `ChatGPT` login. The login itself changes with each refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSettings {
    /// Codex's `auth.json`.
    pub auth_file: PathBuf,
    /// URL of the token endpoint.
    pub refresh_url: String,
}

impl UpstreamSettings {
    /// Returns host and port of the server, for messages.
    pub fn host(&self) -> &str {
        let rest = self.base_url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        authority.rsplit('@').next().unwrap_or_default()
    }
}
