//! MCP servers of a worker: which start, which fail, and which are lost while it runs. Pure.
//!
//! `codex exec` reports nothing about them: a missing server only takes its tools away, and a model that does not
//! find them works without them. With [`FILTER`] in `RUST_LOG` Codex 0.169.0 prints on stderr:
//!
//! ```text
//! TIME WARN SPANS: codex_mcp::rmcp_client: MCP server startup failed server_name="docs" error=REASON
//! TIME INFO …start_server_task{server_name=docs}:…: rmcp::service: Service initialized as client …
//! TIME INFO …start_server_task{server_name=docs}:…: rmcp::service: serve finished quit_reason=Closed
//! ```
//!
//! These lines are not a documented interface. A server that hangs until the end prints none: it is found in the
//! configuration only.

use std::collections::BTreeSet;

use common::text;

/// Log targets of those lines, for Codex's variable.
pub(crate) const FILTER: &str = "codex_mcp::rmcp_client=warn,rmcp::service=info";

/// Log targets of those lines, as they are printed.
const TARGETS: [&str; 2] = ["codex_mcp::rmcp_client: ", "rmcp::service: "];
/// Most servers that are reported, with one warning each.
const MOST: usize = 16;
/// Most bytes of a reason.
const REASON: usize = 200;

/// An event of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The server is up.
    Ready(String),
    /// The server failed to start.
    Failed {
        /// Name of the server.
        server: String,
        /// Reason, as Codex words it.
        reason: String,
    },
    /// The server closed its connection.
    Lost(String),
    /// Nothing relevant.
    Other,
}

/// Parses a line of stderr after its timestamp; returns `None` for a line about something else.
pub(crate) fn read(line: &str) -> Option<News> {
    let rest = line.strip_prefix("WARN ").or_else(|| line.strip_prefix("INFO "))?;
    let (spans, said) = TARGETS.iter().find_map(|target| {
        let at = rest.find(target).filter(|at| *at == 0 || rest[..*at].ends_with(": "))?;
        Some((&rest[..at], &rest[at + target.len()..]))
    })?;
    if let Some(rest) = said.strip_prefix("MCP server startup failed server_name=\"") {
        let (server, reason) = rest.split_once("\" error=")?;
        return Some(News::Failed { server: name(server), reason: text::one_line(reason, REASON) });
    }
    let server = spans.rsplit_once("{server_name=").and_then(|(_, rest)| rest.split_once('}'));
    let Some((server, _)) = server else { return Some(News::Other) };
    Some(match said.strip_prefix("serve finished quit_reason=") {
        _ if said.starts_with("Service initialized") => News::Ready(name(server)),
        Some(reason) if !reason.starts_with("Cancelled") => News::Lost(name(server)),
        _ => News::Other,
    })
}

fn name(server: &str) -> String {
    text::one_line(server, 60)
}

/// Returns the servers that Codex's configuration names and does not disable.
pub(crate) fn configured(config: &str) -> BTreeSet<String> {
    let mut servers = BTreeSet::new();
    let mut current = None;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            let table = line.strip_prefix("[mcp_servers.").and_then(|rest| rest.split_once(']'));
            let server = table.map(|(server, _)| server.trim_matches(['"', '\'', ' ']).to_owned());
            // A deeper table belongs to a server.
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

/// The servers of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Servers {
    /// Servers without any event so far.
    silent: BTreeSet<String>,
    told: usize,
}

impl Servers {
    /// Starts with the servers that the worker's Codex is configured with.
    pub(crate) fn expected(servers: BTreeSet<String>) -> Self {
        Self { silent: servers, told: 0 }
    }

    /// Takes an event; returns a warning for the user, if there is one. `over` is true once the worker's turn is
    /// over.
    pub(crate) fn take(&mut self, news: &News, over: bool) -> Option<String> {
        let (server, warning) = match news {
            News::Ready(server) => (server, None),
            News::Failed { server, reason } => (
                server,
                Some(format!("the MCP server {server} did not start, so its tools were missing: {reason}")),
            ),
            News::Lost(server) if !over => (
                server,
                Some(format!(
                    "the MCP server {server} ended while the worker needed it: its tools were lost"
                )),
            ),
            News::Lost(_) | News::Other => return None,
        };
        self.silent.remove(server);
        self.tell(warning?)
    }

    /// Ends the worker; returns a warning with the servers that never answered.
    pub(crate) fn end(&mut self) -> Option<String> {
        let silent: Vec<String> = std::mem::take(&mut self.silent).into_iter().collect();
        let (servers, their) = match silent.len() {
            0 => return None,
            1 => ("server", "its"),
            _ => ("servers", "their"),
        };
        let names = text::one_line(&silent.join(", "), REASON);
        self.tell(format!(
            "the MCP {servers} {names} had not started when the worker ended: {their} tools were missing"
        ))
    }

    fn tell(&mut self, warning: String) -> Option<String> {
        self.told += 1;
        (self.told <= MOST).then_some(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPANS: &str = "thread_spawn{otel.name=\"thread_spawn\"}:session_init:mcp.runtime.refresh:new{server_name=docs}:mcp.request:start_server_task{server_name=docs}:initialize:serve_inner: ";

    fn heard(line: &str) -> Option<News> {
        read(line)
    }

    #[test]
    fn lines_of_codex_tell_which_servers_come_up_fail_and_are_lost() {
        let failed = "WARN session_init:mcp.request: codex_mcp::rmcp_client: MCP server startup failed server_name=\"docs\" error=No such file or directory (os error 2)";
        let reason = "No such file or directory (os error 2)".to_owned();
        assert_eq!(heard(failed), Some(News::Failed { server: "docs".to_owned(), reason }));
        let service = |said: &str| heard(&format!("INFO {SPANS}rmcp::service: {said}"));
        let docs = "docs".to_owned();
        assert_eq!(
            service("Service initialized as client peer_info=Some(x)"),
            Some(News::Ready(docs.clone()))
        );
        assert_eq!(service("serve finished quit_reason=Closed"), Some(News::Lost(docs)));
        for other in ["serve finished quit_reason=Cancelled", "task cancelled", "input stream terminated"] {
            assert_eq!(service(other), Some(News::Other), "{other}");
        }
        let shutdown = "WARN codex_mcp::rmcp_client: failed to initialize MCP client during shutdown: x";
        assert_eq!(heard(shutdown), Some(News::Other));
        for words in [
            "ERROR codex_core::tools::router: error=rmcp::service: serve finished quit_reason=Closed",
            "WARN codex_core: about rmcp::service: nothing",
            "Reading additional input from stdin...",
        ] {
            assert_eq!(heard(words), None, "{words}");
        }
    }

    #[test]
    fn a_server_is_warned_of_by_its_name_and_one_that_works_is_not() {
        let names = ["dies", "fine", "hangs", "missing"].map(str::to_owned);
        let mut servers = Servers::expected(names.into());
        assert_eq!(servers.take(&News::Ready("fine".into()), false), None);
        assert_eq!(servers.take(&News::Ready("dies".into()), false), None);
        let failed = News::Failed { server: "missing".into(), reason: "no such file".into() };
        let told = servers.take(&failed, false).unwrap();
        assert!(told.contains("missing did not start") && told.contains("no such file"), "{told}");
        assert!(servers.take(&News::Lost("dies".into()), false).unwrap().contains("dies ended"));
        assert_eq!(servers.take(&News::Lost("fine".into()), true), None, "Codex has ended it");
        let told = servers.end().unwrap();
        assert!(told.contains("the MCP server hangs had not started"), "{told}");
        assert_eq!(servers.end(), None);
    }

    #[test]
    fn servers_are_found_in_a_configuration() {
        let config = "model = \"x\"\n[mcp_servers.docs]\ncommand = \"d\"\n[mcp_servers.docs.env]\nenabled = false\n\
                      [mcp_servers.\"web search\"]\n url = \"http://x\"\n[mcp_servers.off]\nenabled = false # not now\n\
                      [other]\nenabled = false\n";
        assert_eq!(configured(config), ["docs", "web search"].map(str::to_owned).into());
    }
}
