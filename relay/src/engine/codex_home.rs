//! Codex's home in the platform container: a volume that workers write to, and that must not be trusted after a
//! restart.
//!
//! Everything except threads, history and the login is removed when the platform starts: otherwise instructions, rules,
//! skills, hooks and settings left by one worker would be read by the next. Neither root nor this process opens
//! anything there. Only the worker's own user opens files there, under a time limit. A new file is renamed into place.

#![expect(clippy::disallowed_methods, reason = "the user's own folder, which no session may write")]

use std::fs;
use std::path::PathBuf;

use super::codex_config::{self, worker_settings};
use crate::config::WorkerCodexConfig;

/// Codex's home inside the container.
pub const CODEX_HOME: &str = "/home/worker/.codex";

/// Script that removes everything that a worker may have left in Codex's home. `rm` opens neither FIFOs nor links. The
/// script restores the permissions of folders first. Its arguments are the home, and `auth.json` to keep a login.
pub const RESET_SCRIPT: &str = r#"
set -u
cd "$1" || exit 1
for entry in * .[!.]* ..?*; do
    [ -e "$entry" ] || [ -L "$entry" ] || continue
    case $entry in
        sessions | archived_sessions | history.jsonl | session_index.jsonl | "${2:-/}" | *.sqlite | *.sqlite-wal | *.sqlite-shm)
            continue ;;
    esac
    rm -rf -- "./$entry" 2>/dev/null || { chmod -R u+rwx -- "./$entry"; rm -rf -- "./$entry"; } || exit 1
done
if [ -e auth.json ] && { [ -L auth.json ] || [ ! -f auth.json ]; }; then rm -rf -- ./auth.json; fi
"#;

/// Script that writes stdin into a file of the given name. An existing entry of that name is not opened. Takes the home
/// and the name as arguments.
pub const COPY_SCRIPT: &str = r#"
set -eu
umask 077
cd "$1"
new=$(mktemp ./.relay-XXXXXXXX)
cat >"$new"
if [ -d "./$2" ] && [ ! -L "./$2" ]; then rm -rf -- "./$2"; fi
mv -fT -- "$new" "./$2"
"#;

/// Returns the files of Codex's home for a container: names and contents. A login is copied only if it is an API key,
/// because a copied `ChatGPT` login would rotate the refresh token and log out the host. Without settings the image's
/// defaults apply. With a gateway to the model, the files name neither a server nor a key.
pub fn worker_files(source: &WorkerCodexConfig, model_gateway: bool) -> Vec<(&'static str, Vec<u8>)> {
    let home = host_codex_home();
    let host = home.as_ref().and_then(|home| fs::read_to_string(home.join("config.toml")).ok());
    let mut files = Vec::new();
    if host.is_some() || matches!(source, WorkerCodexConfig::File { .. }) {
        let settings = worker_settings(source, &host.unwrap_or_default(), model_gateway);
        files.push(("config.toml", settings.into_bytes()));
    }
    let auth = home.filter(|_| !model_gateway).and_then(|home| fs::read(home.join("auth.json")).ok());
    files.extend(auth.filter(|auth| contains_api_key(auth)).map(|auth| ("auth.json", auth)));
    files
}

/// Checks that the host's Codex has the MCP servers that workers are to receive.
///
/// # Errors
/// One line that names the first one that is missing.
pub fn check_mcp_servers(source: &WorkerCodexConfig) -> Result<(), String> {
    let host = host_codex_home().and_then(|home| fs::read_to_string(home.join("config.toml")).ok());
    codex_config::check_mcp_servers(source, &host.unwrap_or_default())
}

fn host_codex_home() -> Option<PathBuf> {
    std::env::var_os("CODEX_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".codex")))
}

/// Returns true for a login with an API key and nothing else.
pub fn contains_api_key(auth: &[u8]) -> bool {
    let auth: serde_json::Value = serde_json::from_slice(auth).unwrap_or_default();
    let key = auth.get("OPENAI_API_KEY").and_then(serde_json::Value::as_str);
    key.is_some_and(|key| !key.is_empty()) && auth.get("tokens").is_none_or(serde_json::Value::is_null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_auth_file_with_nothing_but_an_api_key_is_copied() {
        assert!(contains_api_key(br#"{"OPENAI_API_KEY":"sk-1"}"#));
        for other in [&br#"{"tokens":{"refresh_token":"x"}}"#[..], br#"{"OPENAI_API_KEY":null}"#, b"garbage"]
        {
            assert!(!contains_api_key(other));
        }
        assert!(!contains_api_key(br#"{"OPENAI_API_KEY":"sk-1","tokens":{"refresh_token":"x"}}"#));
    }
}
