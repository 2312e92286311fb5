//! Detector of the model's activity in Codex's trace, which has a line for each event of the model's answer. Pure.
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

/// Environment variable with the filter for Codex's log on stderr.
pub(crate) const LOG_VARIABLE: &str = "RUST_LOG";

/// Log filter: Codex's default (`error`), and the events of both transports. Raw frames are excluded, because otherwise
/// each event would be printed twice.
const TRACE_FILTER: &str =
    "error,codex_api::sse=trace,tungstenite::protocol=trace,tungstenite::protocol::frame=off";

/// Text between the level and the event in a line of the trace.
const EVENT_PREFIXES: [&str; 2] =
    ["codex_api::sse::responses: SSE event: ", "tungstenite::protocol: Received message "];

/// Maximum offset up to which an event is searched for its type, in bytes. The type is the first field of the event.
const MAX_TYPE_OFFSET: usize = 120;

/// Types of events without output of the model: the server has received the request, or has given up.
const INACTIVE_EVENTS: [&str; 5] = ["created", "queued", "in_progress", "failed", "incomplete"];

/// Kind of a line of stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StderrKind {
    /// Codex's own message, for the log.
    Message,
    /// Line of the trace that shows no activity of the model.
    Trace,
    /// Line of the trace that shows activity of the model.
    Activity,
    McpServer(mcp::ServerEvent),
}

/// Detector of the model's activity. It is enabled if the trace was requested.
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

    /// Returns true if the trace was requested, so that activity can be detected.
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

    fn classify_line(line: &str) -> StderrKind {
        ActivityDetector { enabled: true }.classify(&Line::Whole(line.as_bytes().to_vec()))
    }

    const DELTA: &str = r#"2026-11-22T19:41:06.959552Z TRACE codex_api::sse::responses: SSE event: {"type":"response.output_text.delta","item_id":"m","delta":"piece 0 "}"#;

    #[test]
    fn output_of_the_model_is_activity_over_both_transports() {
        assert_eq!(classify_line(DELTA), StderrKind::Activity);
        let socket = r#"2026-11-22T19:43:52.554188Z TRACE tungstenite::protocol: Received message {"type": "response.function_call_arguments.delta", "delta": "x"}"#;
        assert_eq!(classify_line(socket), StderrKind::Activity);
        let cut = Line::Truncated { head: DELTA.as_bytes().to_vec(), tail: vec![], dropped_bytes: 1_000_000 };
        assert_eq!(ActivityDetector { enabled: true }.classify(&cut), StderrKind::Activity);
    }

    #[test]
    fn an_event_without_output_of_the_model_is_no_activity() {
        for kind in
            ["response.created", "response.in_progress", "response.failed", "keepalive", "codex.rate_limits"]
        {
            assert_eq!(
                classify_line(&DELTA.replace("response.output_text.delta", kind)),
                StderrKind::Trace,
                "{kind}"
            );
        }
        let sent = r#"2026-11-22T19:43:52.250126Z TRACE tungstenite::protocol: Sending frame: Frame { payload: b"{\"type\":\"response.create\"" }"#;
        assert_eq!(classify_line(sent), StderrKind::Trace);
    }

    #[test]
    fn lines_outside_of_the_trace_are_messages() {
        for line in [
            "",
            " ",
            "TRACE x: y",
            "2026-11-22T19:41:06.959552Z ERROR codex_core::tools::router: error=TRACE codex_api::sse::responses: SSE event: {",
            "Reading additional input from stdin...",
        ] {
            assert_eq!(classify_line(line), StderrKind::Message, "{line}");
        }
    }

    #[test]
    fn a_line_about_an_mcp_server_is_no_message() {
        let line = "2026-11-28T23:38:03.387745Z  WARN session_init:mcp.request: codex_mcp::rmcp_client: MCP server startup failed server_name=\"docs\" error=gone";
        let failed = mcp::ServerEvent::Failed { server: "docs".to_owned(), reason: "gone".to_owned() };
        assert_eq!(classify_line(line), StderrKind::McpServer(failed));
        assert_eq!(
            ActivityDetector { enabled: false }.classify(&Line::Whole(line.into())),
            StderrKind::Message
        );
    }

    #[test]
    fn a_log_filter_of_the_user_stays_and_disables_the_detector() {
        let mut env = Variables::new();
        assert_eq!(ActivityDetector::from_env(&env), ActivityDetector { enabled: true });
        ActivityDetector::request_trace(&mut env);
        assert_eq!(env[LOG_VARIABLE], log_filter());
        let mut user_env = Variables::from([(LOG_VARIABLE.to_owned(), "debug".to_owned())]);
        ActivityDetector::request_trace(&mut user_env);
        assert_eq!(user_env[LOG_VARIABLE], "debug");
        assert_eq!(
            ActivityDetector::from_env(&user_env).classify(&Line::Whole(DELTA.into())),
            StderrKind::Message
        );
    }
}
