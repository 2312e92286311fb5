//! Codex's home in the platform container: a volume that workers write to, and that must not be trusted after a
//! restart.
//!
//! Everything except threads, history and the login is removed when the platform starts: otherwise instructions, rules,
//! skills, hooks and settings left by one worker would be read by the next. Neither root nor this process opens
//! anything there. Only the worker's own user opens files there, under a time limit. A new file is renamed into place.

#![expect(clippy::disallowed_methods, reason = "the user's own folder, which no session may write")]

use std::fs;
use std::path::PathBuf;

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

/// Settings of the host's Codex that a worker receives: the choice of model and its parameters. Programs (notifiers,
/// hooks, tool servers) and settings about the host's folders are not copied.
const COPIED_SETTINGS: [&str; 25] = [
    "model",
    "model_provider",
    "model_providers",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "model_supports_reasoning_summaries",
    "model_verbosity",
    "model_context_window",
    "model_max_output_tokens",
    "model_auto_compact_token_limit",
    "review_model",
    "openai_base_url",
    "chatgpt_base_url",
    "personality",
    "service_tier",
    "hide_agent_reasoning",
    "show_raw_agent_reasoning",
    "web_search",
    "tools",
    "features",
    "forced_login_method",
    "check_for_update_on_startup",
    "disable_response_storage",
    "preferred_auth_method",
    "analytics",
];

/// Settings about the model's server and the login, which may contain a key. With a gateway only the relay uses them.
const SERVER_SETTINGS: [&str; 6] = [
    "model_provider",
    "model_providers",
    "openai_base_url",
    "chatgpt_base_url",
    "forced_login_method",
    "preferred_auth_method",
];

/// Returns the files of the host's Codex home for the container: names and contents. A login is copied only if it is an
/// API key, because a copied `ChatGPT` login would rotate the refresh token and log out the host. Without settings the
/// image's defaults apply. With a gateway to the model, the files name neither a server nor a key.
pub fn host_files(model_gateway: bool) -> Vec<(&'static str, Vec<u8>)> {
    let Some(home) = host_codex_home() else { return Vec::new() };
    let mut files = Vec::new();
    if let Ok(text) = fs::read_to_string(home.join("config.toml")) {
        files.push(("config.toml", copied_settings(&text, model_gateway).into_bytes()));
    }
    let auth = if model_gateway { None } else { fs::read(home.join("auth.json")).ok() };
    files.extend(auth.filter(|auth| contains_api_key(auth)).map(|auth| ("auth.json", auth)));
    files
}

/// Returns the settings that a worker receives; empty if the file can't be parsed.
fn copied_settings(text: &str, model_gateway: bool) -> String {
    let mut table: toml::Table = text.parse().unwrap_or_else(|_| {
        tracing::warn!("the config.toml of the host's Codex can't be parsed: workers get none of it");
        toml::Table::new()
    });
    let stays = |key: &str| model_gateway && SERVER_SETTINGS.contains(&key);
    table.retain(|key, _| COPIED_SETTINGS.contains(&key) && !stays(key));
    table.to_string()
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

    #[test]
    fn workers_get_the_model_s_settings_and_no_programs() {
        let text = "model = \"m\"\nnotify = [\"sh\"]\nsandbox_mode = \"x\"\n[model_providers.a]\nbase_url = \"u\"\n\
                    [mcp_servers.s]\ncommand = \"sh\"\n[projects.\"/p\"]\ntrust_level = \"trusted\"\n[hooks]\nx = 1\n";
        assert_eq!(copied_settings(text, false), "model = \"m\"\n\n[model_providers.a]\nbase_url = \"u\"\n");
        assert_eq!(copied_settings(text, true), "model = \"m\"\n");
        assert_eq!(copied_settings("= broken", false), "");
    }
}
