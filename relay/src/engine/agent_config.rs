//! Configuration of the agent: the relay's address, the token, and the environment of the workers.
//!
//! The configuration is passed through stdin, never in an argument or an environment that `docker inspect` or `ps`
//! shows. With engine `local` the agent keeps it in memory only; in a container it is stored in a file that only root
//! can read.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use common::job::Sandbox;

use crate::engine_kind::EngineKind;

/// The agent's configuration, read by `worker-agent configure` and `run --config-stdin`.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct AgentConfig {
    /// Address of the relay for the agent.
    pub url: String,
    /// Certificate of the relay (PEM). The agent accepts no other certificate.
    pub certificate: String,
    /// Secret that proves that the agent belongs to this relay: 256 random bits in hex.
    pub token: String,
    /// Maximum number of concurrent jobs.
    pub max_jobs: u32,
    /// User that the workers run as; `None` for the agent's own user.
    pub user: Option<&'static str>,
    /// Codex program with which the agent checks the platform.
    pub codex: String,
    /// Environment of the workers.
    pub env: BTreeMap<String, String>,
    /// Paths that are hidden from every sandboxed job.
    pub hidden: Vec<String>,
    /// Folders that workspaces must be in.
    pub roots: Vec<String>,
    /// Codex arguments from `relay.toml`.
    pub trusted_args: Vec<String>,
    /// Sandbox setting from `relay.toml`.
    pub sandbox: Sandbox,
    /// True if workers reach the model through the relay.
    pub model_gateway: bool,
    /// True for the container of a single job: the agent exits after that job.
    pub one_job: bool,
    /// Disk space that a single job may use in its container, in bytes; `None` for no limit.
    pub disk: Option<u64>,
    /// Unix socket at which the agent reaches the relay, instead of the host and port of `url`.
    pub socket: Option<String>,
    /// True if jobs reach other hosts through the relay alone.
    pub network_proxy: bool,
    /// Names of the secrets that the relay adds to requests of the jobs. Their values stay with the relay.
    pub secrets: Vec<String>,
}

// Implemented by hand: the token and the values of variables must not get into a log.
impl fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentConfig")
            .field("url", &self.url)
            .field("max_jobs", &self.max_jobs)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// Names of the variables that hold the model key.
pub const MODEL_KEYS: [&str; 2] = ["CODEX_API_KEY", "OPENAI_API_KEY"];

/// Variable with the key of the Messages API, which only the relay uses.
pub const MESSAGES_KEY: &str = "ANTHROPIC_API_KEY";

/// Names of the variables that workers of engine `local` get, besides `LC_*`: Codex and common tools need them.
const LOCAL_VARIABLES: [&str; 22] = [
    "HOME",
    "PATH",
    "CODEX_HOME",
    "LANG",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HOME",
    "RUSTUP_HOME",
];

/// Builds the workers' environment from the relay's environment.
///
/// A container has its own folders and certificates: only the model key is passed to it. With `model_gateway` the key
/// stays with the relay.
pub fn worker_env(
    engine: EngineKind,
    model_gateway: bool,
    relay_env: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut openai_key = None;
    for (name, value) in relay_env {
        let is_allowed =
            !engine.is_container() && (LOCAL_VARIABLES.contains(&name.as_str()) || name.starts_with("LC_"));
        let is_key = MODEL_KEYS.contains(&name.as_str());
        if is_key && model_gateway {
            continue;
        }
        if is_allowed || name == "CODEX_API_KEY" {
            env.insert(name, value);
        } else if name == "OPENAI_API_KEY" {
            openai_key = Some(value);
        }
    }
    // Codex ignores OPENAI_API_KEY in its environment: the key is passed under the name that it reads.
    if let Some(key) = openai_key {
        env.entry("CODEX_API_KEY".to_owned()).or_insert(key);
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(engine: EngineKind, model_gateway: bool) -> Vec<String> {
        let names = ["HOME", "PATH", "LC_ALL", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "RELAY_ROOT"];
        worker_env(engine, model_gateway, names.map(|name| (name.to_owned(), "x".to_owned())))
            .into_keys()
            .collect()
    }

    #[test]
    fn workers_get_what_they_need_and_no_secret_but_the_model_s_key() {
        assert_eq!(env(EngineKind::Local, false), ["CODEX_API_KEY", "HOME", "LC_ALL", "PATH"]);
        assert_eq!(env(EngineKind::Docker, false), ["CODEX_API_KEY"]);
        assert_eq!(env(EngineKind::Local, true), ["HOME", "LC_ALL", "PATH"]);
        assert_eq!(env(EngineKind::Docker, true), [""; 0]);
    }

    #[test]
    fn debug_output_holds_no_value() {
        let config = AgentConfig {
            url: "ws://h/agent".to_owned(),
            certificate: "pem".to_owned(),
            token: "s3cret-token".to_owned(),
            max_jobs: 1,
            user: None,
            codex: "codex".to_owned(),
            env: [("CODEX_API_KEY".to_owned(), "s3cret-key".to_owned())].into(),
            hidden: Vec::new(),
            roots: Vec::new(),
            trusted_args: Vec::new(),
            sandbox: common::job::Sandbox::Off,
            model_gateway: false,
            one_job: false,
            disk: None,
            socket: None,
            network_proxy: false,
            secrets: Vec::new(),
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("CODEX_API_KEY") && !shown.contains("s3cret"), "{shown}");
    }
}
