//! Tracker of a worker's MCP servers: their starts, failures and lost connections while the worker runs. Pure.
//!
//! `codex exec` reports nothing about its servers: if one is missing, the model silently works without its tools. With
//! [`LOG_FILTER`] in `RUST_LOG` Codex 0.169.0 prints on stderr:
//!
//! ```text
//! TIME WARN SPANS: codex_mcp::rmcp_client: MCP server startup failed server_name="docs" error=REASON
//! TIME INFO …start_server_task{server_name=docs}:…: rmcp::service: Service initialized as client …
//! TIME INFO …start_server_task{server_name=docs}:…: rmcp::service: serve finished quit_reason=Closed
//! ```
//!
//! These lines are not a documented interface. No line names a server that never starts: only the configuration does.

use std::collections::BTreeSet;

use common::text_format;

/// Log filter for `RUST_LOG` that makes Codex print the lines about MCP servers.
pub(crate) const LOG_FILTER: &str = "codex_mcp::rmcp_client=warn,rmcp::service=info";

/// Log targets of the lines about MCP servers, as they are printed.
const LOG_TARGETS: [&str; 2] = ["codex_mcp::rmcp_client: ", "rmcp::service: "];
/// Maximum number of servers that are reported, with one warning each.
const MAX_WARNINGS: usize = 16;
/// Maximum length of the reason of a failure, in bytes.
const MAX_REASON: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerEvent {
    /// The server is up.
    Ready(String),
    /// The server failed to start.
    Failed {
        server: String,
        /// Reason in Codex's words.
        reason: String,
    },
    /// The server closed its connection.
    Lost(String),
    /// A line that shows no change of a server.
    Irrelevant,
}

/// Parses a line of stderr after its timestamp; returns `None` for a line about something else.
pub(crate) fn parse_line(line: &str) -> Option<ServerEvent> {
    let rest = line.strip_prefix("WARN ").or_else(|| line.strip_prefix("INFO "))?;
    let (spans, message) = LOG_TARGETS.iter().find_map(|target| {
        let at = rest.find(target).filter(|at| *at == 0 || rest[..*at].ends_with(": "))?;
        Some((&rest[..at], &rest[at + target.len()..]))
    })?;
    if let Some(rest) = message.strip_prefix("MCP server startup failed server_name=\"") {
        let (server, reason) = rest.split_once("\" error=")?;
        return Some(ServerEvent::Failed {
            server: server_name(server),
            reason: text_format::one_line(reason, MAX_REASON),
        });
    }
    let server = spans.rsplit_once("{server_name=").and_then(|(_, rest)| rest.split_once('}'));
    let Some((server, _)) = server else { return Some(ServerEvent::Irrelevant) };
    Some(match message.strip_prefix("serve finished quit_reason=") {
        _ if message.starts_with("Service initialized") => ServerEvent::Ready(server_name(server)),
        Some(reason) if !reason.starts_with("Cancelled") => ServerEvent::Lost(server_name(server)),
        _ => ServerEvent::Irrelevant,
    })
}

fn server_name(server: &str) -> String {
    text_format::one_line(server, 60)
}

/// Returns the servers that Codex's configuration names and does not disable.
pub(crate) fn configured_servers(config: &str) -> BTreeSet<String> {
    let mut servers = BTreeSet::new();
    let mut current = None;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            let table = line.strip_prefix("[mcp_servers.").and_then(|rest| rest.split_once(']'));
            let server = table.map(|(server, _)| server.trim_matches(['"', '\'', ' ']).to_owned());
            // A deeper table, such as `[mcp_servers.docs.env]`, is not a server, and its keys are ignored.
            current = server.filter(|server| !server.is_empty() && !server.contains('.'));
            servers.extend(current.clone());
        } else if let (Some(server), Some((key, value))) = (&current, line.split_once('='))
            && key.trim() == "enabled"
            && value.trim().starts_with("false")
        {
            servers.remove(server);
        }
    }
    servers
}

/// State of one worker's MCP servers.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerTracker {
    /// Servers without any event so far.
    silent_servers: BTreeSet<String>,
    warning_count: usize,
}

impl ServerTracker {
    /// Creates the state for the servers that the worker's Codex is configured with.
    pub(crate) fn from_configured(servers: BTreeSet<String>) -> Self {
        Self { silent_servers: servers, warning_count: 0 }
    }

    /// Handles an event; returns a warning for the user, if there is one.
    pub(crate) fn take_event(&mut self, event: &ServerEvent, has_turn_ended: bool) -> Option<String> {
        let (server, warning) = match event {
            ServerEvent::Ready(server) => (server, None),
            ServerEvent::Failed { server, reason } => (
                server,
                Some(format!("the MCP server {server} did not start, so its tools were missing: {reason}")),
            ),
            ServerEvent::Lost(server) if !has_turn_ended => (
                server,
                Some(format!(
                    "the MCP server {server} ended while the worker needed it: its tools were lost"
                )),
            ),
            ServerEvent::Lost(_) | ServerEvent::Irrelevant => return None,
        };
        self.silent_servers.remove(server);
        self.warn(warning?)
    }

    /// Ends the tracking; returns a warning that names the servers without any event.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let names: Vec<String> = std::mem::take(&mut self.silent_servers).into_iter().collect();
        let (servers, their) = match names.len() {
            0 => return None,
            1 => ("server", "its"),
            _ => ("servers", "their"),
        };
        let names = text_format::one_line(&names.join(", "), MAX_REASON);
        self.warn(format!(
            "the MCP {servers} {names} had not started when the worker ended: {their} tools were missing"
        ))
    }

    fn warn(&mut self, warning: String) -> Option<String> {
        self.warning_count += 1;
        (self.warning_count <= MAX_WARNINGS).then_some(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPANS: &str = "thread_spawn{otel.name=\"thread_spawn\"}:session_init:mcp.runtime.refresh:new{server_name=docs}:mcp.request:start_server_task{server_name=docs}:initialize:serve_inner: ";

    fn event_of(line: &str) -> Option<ServerEvent> {
        parse_line(line)
    }

    #[test]
    fn lines_of_codex_show_which_servers_start_fail_and_are_lost() {
        let failed = "WARN session_init:mcp.request: codex_mcp::rmcp_client: MCP server startup failed server_name=\"docs\" error=No such file or directory (os error 2)";
        let reason = "No such file or directory (os error 2)".to_owned();
        assert_eq!(event_of(failed), Some(ServerEvent::Failed { server: "docs".to_owned(), reason }));
        let service = |message: &str| event_of(&format!("INFO {SPANS}rmcp::service: {message}"));
        let docs = "docs".to_owned();
        assert_eq!(
            service("Service initialized as client peer_info=Some(x)"),
            Some(ServerEvent::Ready(docs.clone()))
        );
        assert_eq!(service("serve finished quit_reason=Closed"), Some(ServerEvent::Lost(docs)));
        for other in ["serve finished quit_reason=Cancelled", "task cancelled", "input stream terminated"] {
            assert_eq!(service(other), Some(ServerEvent::Irrelevant), "{other}");
        }
        let shutdown = "WARN codex_mcp::rmcp_client: failed to initialize MCP client during shutdown: x";
        assert_eq!(event_of(shutdown), Some(ServerEvent::Irrelevant));
        for words in [
            "ERROR codex_core::tools::router: error=rmcp::service: serve finished quit_reason=Closed",
            "WARN codex_core: about rmcp::service: nothing",
            "Reading additional input from stdin...",
        ] {
            assert_eq!(event_of(words), None, "{words}");
        }
    }

    #[test]
    fn a_warning_names_a_server_that_fails_and_none_that_works() {
        let names = ["dies", "fine", "hangs", "missing"].map(str::to_owned);
        let mut servers = ServerTracker::from_configured(names.into());
        assert_eq!(servers.take_event(&ServerEvent::Ready("fine".into()), false), None);
        assert_eq!(servers.take_event(&ServerEvent::Ready("dies".into()), false), None);
        let failed = ServerEvent::Failed { server: "missing".into(), reason: "no such file".into() };
        let warning = servers.take_event(&failed, false).unwrap();
        assert!(warning.contains("missing did not start") && warning.contains("no such file"), "{warning}");
        assert!(servers.take_event(&ServerEvent::Lost("dies".into()), false).unwrap().contains("dies ended"));
        assert_eq!(servers.take_event(&ServerEvent::Lost("fine".into()), true), None, "Codex has ended it");
        let warning = servers.finish().unwrap();
        assert!(warning.contains("the MCP server hangs had not started"), "{warning}");
        assert_eq!(servers.finish(), None);
    }

    #[test]
    fn servers_are_found_in_a_configuration() {
        let config = "model = \"x\"\n[mcp_servers.docs]\ncommand = \"d\"\n[mcp_servers.docs.env]\nenabled = false\n\
                      [mcp_servers.\"web search\"]\n url = \"http://x\"\n[mcp_servers.off]\nenabled = false # not now\n\
                      [other]\nenabled = false\n";
        assert_eq!(configured_servers(config), ["docs", "web search"].map(str::to_owned).into());
    }
}
