//! Activity of the model, detected in Codex's trace, which has a line for each event of the model's answer. Pure.
//!
//! `codex exec --json` shows nothing while the model writes, so a long answer and a dead server look the same. With
//! [`TRACE_FILTER`] in `RUST_LOG` Codex 0.169.0 prints one line on stderr per event of the answer's stream:
//!
//! ```text
//! TIME TRACE codex_api::sse::responses: SSE event: {"type":"response.output_text.delta",…      over HTTP
//! TIME TRACE tungstenite::protocol: Received message {"type":"response.output_text.delta",…    over a WebSocket
//! ```
//!
//! These lines are not a documented interface. If they are missing, no activity extends the model's deadline. They
//! contain the model's text (over a WebSocket also each request), so they are not stored anywhere.

use super::lines::Line;
use super::mcp;
use crate::environment::Variables;

/// Codex's variable for its output on stderr.
pub(crate) const LOG_VARIABLE: &str = "RUST_LOG";

/// Log filter: Codex's default (`error`), and the events of both transports. Raw frames are excluded, because otherwise
/// each event would be printed twice.
const TRACE_FILTER: &str =
    "error,codex_api::sse=trace,tungstenite::protocol=trace,tungstenite::protocol::frame=off";

/// Text before an event, without its timestamp.
const EVENT_PREFIXES: [&str; 2] =
    ["codex_api::sse::responses: SSE event: ", "tungstenite::protocol: Received message "];

/// Maximum offset up to which an event is searched for its type, in bytes. The type is its first field.
const MAX_TYPE_OFFSET: usize = 120;

/// Types of events that contain no output of the model: the server has received the request, or gives up.
const INACTIVE_EVENTS: [&str; 5] = ["created", "queued", "in_progress", "failed", "incomplete"];

/// Kind of a line of stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StderrKind {
    /// Codex's own message, for the log.
    Message,
    /// Trace that proves no activity.
    Trace,
    Activity,
    McpServer(mcp::ServerEvent),
}

/// Detects the model's activity, if the trace was requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ActivityDetector {
    enabled: bool,
}

impl ActivityDetector {
    /// Sets the log filter in Codex's environment to request the trace. If the environment already has a log filter, it
    /// stays unchanged, and no activity is detected.
    pub(crate) fn request_trace(env: &mut Variables) {
        if Self::from_env(env).enabled {
            env.insert(LOG_VARIABLE.to_owned(), log_filter());
        }
    }

    /// Returns the detector for a Codex with this environment, before [`request_trace`](Self::request_trace) changes
    /// it.
    pub(crate) fn from_env(env: &Variables) -> Self {
        Self { enabled: !env.contains_key(LOG_VARIABLE) }
    }

    /// Returns true if activity is detected.
    pub(crate) fn is_enabled(self) -> bool {
        self.enabled
    }

    /// Classifies a line of stderr.
    pub(crate) fn classify(self, line: &Line) -> StderrKind {
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::Truncated { head, .. } => head,
        };
        let Some(line) = after_timestamp(bytes).filter(|_| self.enabled) else { return StderrKind::Message };
        match line.strip_prefix(b"TRACE ") {
            Some(rest) if is_activity_event(rest) => StderrKind::Activity,
            Some(_) => StderrKind::Trace,
            None => mcp::parse_line(&String::from_utf8_lossy(line))
                .map_or(StderrKind::Message, StderrKind::McpServer),
        }
    }
}

fn log_filter() -> String {
    format!("{TRACE_FILTER},{}", mcp::LOG_FILTER)
}

/// Returns the text after the timestamp of a trace line; it begins with the level.
fn after_timestamp(line: &[u8]) -> Option<&[u8]> {
    let time = line.iter().position(|byte| *byte == b' ').filter(|_| line[0].is_ascii_digit())?;
    Some(line[time..].trim_ascii_start())
}

fn is_activity_event(rest: &[u8]) -> bool {
    let Some(event) = EVENT_PREFIXES.iter().find_map(|mark| rest.strip_prefix(mark.as_bytes())) else {
        return false;
    };
    let head = String::from_utf8_lossy(&event[..event.len().min(MAX_TYPE_OFFSET)]);
    // Both spellings of JSON occur: with and without a space after the colon.
    let head = head.replacen("\": \"", "\":\"", 1);
    let Some(kind) = head.strip_prefix("{\"type\":\"response.").and_then(|rest| rest.split('"').next())
    else {
        return false;
    };
    !INACTIVE_EVENTS.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(line: &str) -> StderrKind {
        ActivityDetector { enabled: true }.classify(&Line::Whole(line.as_bytes().to_vec()))
    }

    const DELTA: &str = r#"2026-11-22T19:41:06.959552Z TRACE codex_api::sse::responses: SSE event: {"type":"response.output_text.delta","item_id":"m","delta":"piece 0 "}"#;

    #[test]
    fn something_new_from_the_model_is_activity_over_both_transports() {
        assert_eq!(hear(DELTA), StderrKind::Activity);
        let socket = r#"2026-11-22T19:43:52.554188Z TRACE tungstenite::protocol: Received message {"type": "response.function_call_arguments.delta", "delta": "x"}"#;
        assert_eq!(hear(socket), StderrKind::Activity);
        let cut = Line::Truncated { head: DELTA.as_bytes().to_vec(), tail: vec![], dropped: 1_000_000 };
        assert_eq!(ActivityDetector { enabled: true }.classify(&cut), StderrKind::Activity);
    }

    #[test]
    fn a_server_that_only_took_the_request_is_no_model_that_speaks() {
        for kind in
            ["response.created", "response.in_progress", "response.failed", "keepalive", "codex.rate_limits"]
        {
            assert_eq!(hear(&DELTA.replace("response.output_text.delta", kind)), StderrKind::Trace, "{kind}");
        }
        let sent = r#"2026-11-22T19:43:52.250126Z TRACE tungstenite::protocol: Sending frame: Frame { payload: b"{\"type\":\"response.create\"" }"#;
        assert_eq!(hear(sent), StderrKind::Trace);
    }

    #[test]
    fn codexs_own_words_stay_words() {
        for line in [
            "",
            " ",
            "TRACE x: y",
            "2026-11-22T19:41:06.959552Z ERROR codex_core::tools::router: error=TRACE codex_api::sse::responses: SSE event: {",
            "Reading additional input from stdin...",
        ] {
            assert_eq!(hear(line), StderrKind::Message, "{line}");
        }
    }

    #[test]
    fn news_of_an_mcp_server_are_no_words_for_people() {
        let line = "2026-11-28T23:38:03.387745Z  WARN session_init:mcp.request: codex_mcp::rmcp_client: MCP server startup failed server_name=\"docs\" error=gone";
        let failed = mcp::ServerEvent::Failed { server: "docs".to_owned(), reason: "gone".to_owned() };
        assert_eq!(hear(line), StderrKind::McpServer(failed));
        assert_eq!(
            ActivityDetector { enabled: false }.classify(&Line::Whole(line.into())),
            StderrKind::Message
        );
    }

    #[test]
    fn who_sets_the_variable_gets_the_lines_and_nothing_is_heard() {
        let mut env = Variables::new();
        assert_eq!(ActivityDetector::from_env(&env), ActivityDetector { enabled: true });
        ActivityDetector::request_trace(&mut env);
        assert_eq!(env[LOG_VARIABLE], log_filter());
        let mut own = Variables::from([(LOG_VARIABLE.to_owned(), "debug".to_owned())]);
        ActivityDetector::request_trace(&mut own);
        assert_eq!(own[LOG_VARIABLE], "debug");
        assert_eq!(
            ActivityDetector::from_env(&own).classify(&Line::Whole(DELTA.into())),
            StderrKind::Message
        );
    }
}
