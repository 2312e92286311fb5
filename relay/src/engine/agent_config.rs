//! What the agent is told: where the relay is, its token, the environment of its workers.
//!
//! It travels through `worker-agent configure`'s stdin and lies in a file that only the agent's user can read, never
//! in an argument or an environment that `docker inspect` or `ps` shows.

use std::collections::BTreeMap;

use serde::Serialize;

use common::job::Sandbox;

use super::EngineKind;

/// The agent's configuration. Its reader is `worker-agent configure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentConfig {
    /// Where the relay listens, as the agent sees it.
    pub url: String,
    /// Proves that the agent is this relay's: 256 random bits in hex.
    pub token: String,
    /// How many jobs it runs at once.
    pub max_jobs: u32,
    /// The user of its workers; none for the agent's own.
    pub user: Option<&'static str>,
    /// The Codex that the platform is judged by.
    pub codex: String,
    /// Environment of its workers.
    pub env: BTreeMap<String, String>,
    /// Paths that no job in a sandbox may see.
    pub hidden: Vec<String>,
    /// Folders that workspaces have to lie in.
    pub roots: Vec<String>,
    /// Codex's arguments of `relay.toml`.
    pub trusted_args: Vec<String>,
    /// The sandbox of `relay.toml`.
    pub sandbox: Sandbox,
}

/// Handed to workers of engine `local`, besides `LC_*`: what Codex and the usual tools need to find their way.
const LOCAL: [&str; 22] = [
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

/// The workers' environment, out of the relay's own.
///
/// A container has its own folders and certificates: only the model's key goes there.
pub fn worker_env(
    engine: EngineKind,
    own: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut openai = None;
    for (name, value) in own {
        let allowed = !engine.is_container() && (LOCAL.contains(&name.as_str()) || name.starts_with("LC_"));
        if allowed || name == "CODEX_API_KEY" {
            env.insert(name, value);
        } else if name == "OPENAI_API_KEY" {
            openai = Some(value);
        }
    }
    // Codex ignores OPENAI_API_KEY in its environment: handed on under the name it reads.
    if let Some(key) = openai {
        env.entry("CODEX_API_KEY".to_owned()).or_insert(key);
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(engine: EngineKind) -> Vec<String> {
        let own = ["HOME", "PATH", "LC_ALL", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "RELAY_ROOT"];
        worker_env(engine, own.map(|name| (name.to_owned(), "x".to_owned()))).into_keys().collect()
    }

    #[test]
    fn workers_get_what_they_need_and_no_secret_but_the_models_key() {
        assert_eq!(env(EngineKind::Local), ["CODEX_API_KEY", "HOME", "LC_ALL", "PATH"]);
        assert_eq!(env(EngineKind::Docker), ["CODEX_API_KEY"]);
    }
}
