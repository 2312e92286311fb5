//! `config.toml` of Codex in a container (pure).
//!
//! From the host's own file, workers get the choice of model and its parameters, and the MCP servers that `[codex] mcp`
//! names. Other programs (notifiers, hooks) and settings about the host's folders stay out. A file of the workers' own
//! (`[codex] config`) takes its place as a whole.

use std::collections::BTreeSet;

use crate::config::WorkerCodexConfig;

/// Settings of the host's Codex that a worker receives: the choice of model and its parameters.
const COPIED_SETTINGS: [&str; 29] = [
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
    "plan_mode_reasoning_effort",
    "review_model",
    "openai_base_url",
    "chatgpt_base_url",
    "personality",
    "service_tier",
    "hide_agent_reasoning",
    "show_raw_agent_reasoning",
    "web_search",
    "tools",
    "tool_output_token_limit",
    "project_doc_max_bytes",
    "project_doc_fallback_filenames",
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

/// Table with the MCP servers.
const MCP_SERVERS: &str = "mcp_servers";

/// Returns the settings that a worker receives. `host` is the `config.toml` of the host's Codex, which gives nothing if
/// it can't be parsed.
pub(super) fn worker_settings(source: &WorkerCodexConfig, host: &str, model_gateway: bool) -> String {
    let mut table = match source {
        WorkerCodexConfig::Host { mcp } => host_settings(host, mcp),
        WorkerCodexConfig::File { text, .. } => text.parse().unwrap_or_default(),
    };
    table.retain(|key, _| !(model_gateway && SERVER_SETTINGS.contains(&key)));
    table.to_string()
}

fn host_settings(host: &str, mcp: &[String]) -> toml::Table {
    let mut table: toml::Table = host.parse().unwrap_or_else(|_| {
        tracing::warn!("the config.toml of the host's Codex can't be parsed: workers get none of it");
        toml::Table::new()
    });
    let servers = table.remove(MCP_SERVERS);
    table.retain(|key, _| COPIED_SETTINGS.contains(&key));
    if let Some(toml::Value::Table(mut servers)) = servers {
        servers.retain(|name, _| mcp.iter().any(|named| named == name));
        if !servers.is_empty() {
            table.insert(MCP_SERVERS.to_owned(), servers.into());
        }
    }
    table
}

/// Checks that the host's Codex has the MCP servers that workers are to receive.
///
/// # Errors
/// One line that names the first one that is missing, and those that there are.
pub(super) fn check_mcp_servers(source: &WorkerCodexConfig, host: &str) -> Result<(), String> {
    let WorkerCodexConfig::Host { mcp } = source else { return Ok(()) };
    if mcp.is_empty() {
        return Ok(());
    }
    let table: toml::Table =
        host.parse().map_err(|_| "[codex] mcp: the config.toml of codex can't be parsed".to_owned())?;
    let servers = table.get(MCP_SERVERS).and_then(toml::Value::as_table);
    let known: BTreeSet<&str> = servers.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let Some(missing) = mcp.iter().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
    let known: Vec<&str> = known.into_iter().collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(format!("[codex] mcp: the config.toml of codex has no MCP server {missing:?} (it has: {known})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "model = \"m\"\nnotify = [\"sh\"]\nsandbox_mode = \"x\"\n[model_providers.a]\nbase_url = \"u\"\n\
                        [mcp_servers.docs]\ncommand = \"d\"\n[mcp_servers.other]\ncommand = \"sh\"\n\
                        [projects.\"/p\"]\ntrust_level = \"trusted\"\n[hooks]\nx = 1\n";

    fn host(mcp: &[&str]) -> WorkerCodexConfig {
        WorkerCodexConfig::Host { mcp: mcp.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn workers_get_the_model_s_settings_and_no_programs() {
        let provider = "model = \"m\"\n\n[model_providers.a]\nbase_url = \"u\"\n";
        assert_eq!(worker_settings(&host(&[]), HOST, false), provider);
        assert_eq!(worker_settings(&host(&[]), HOST, true), "model = \"m\"\n");
        assert_eq!(worker_settings(&host(&[]), "= broken", false), "");
    }

    #[test]
    fn only_named_mcp_servers_come_in() {
        let settings = worker_settings(&host(&["docs"]), HOST, true);
        assert_eq!(settings, "model = \"m\"\n\n[mcp_servers.docs]\ncommand = \"d\"\n");
        assert_eq!(check_mcp_servers(&host(&["docs", "other"]), HOST), Ok(()));
        assert_eq!(check_mcp_servers(&host(&[]), "= broken"), Ok(()));
        let error = check_mcp_servers(&host(&["docs", "no"]), HOST).unwrap_err();
        assert!(error.ends_with("no MCP server \"no\" (it has: docs, other)"), "{error}");
        assert!(check_mcp_servers(&host(&["no"]), "").unwrap_err().contains("(it has: none)"));
        assert!(check_mcp_servers(&host(&["no"]), "= broken").is_err());
    }

    #[test]
    fn a_file_of_the_workers_own_takes_the_place_of_the_host_s() {
        let text = "model = \"w\"\nmodel_provider = \"x\"\nnotify = [\"sh\"]\n".to_owned();
        let file = WorkerCodexConfig::File { path: "/p/codex.toml".into(), text };
        assert_eq!(worker_settings(&file, HOST, true), "model = \"w\"\nnotify = [\"sh\"]\n");
        assert!(worker_settings(&file, HOST, false).contains("model_provider"));
        assert_eq!(check_mcp_servers(&file, "= broken"), Ok(()));
    }
}
