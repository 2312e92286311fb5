//! Caller of a tool, and the cancellation state of the call.

use rmcp::model::RequestMetaObject;
use serde_json::Value;

/// Key in `_meta` of each call under which Codex describes the calling turn.
const CODEX: &str = "x-codex-turn-metadata";

/// A call of a tool.
pub struct CallContext {
    thread: Option<String>,
    over: Box<dyn Fn() -> bool + Send>,
}

impl CallContext {
    /// Creates a call with this `_meta`. Its answer is no longer needed once `over` returns true.
    pub(super) fn new(meta: &RequestMetaObject, over: impl Fn() -> bool + Send + 'static) -> Self {
        let thread = meta.get(CODEX).and_then(|turn| turn.get("thread_id")).and_then(Value::as_str);
        Self { thread: thread.map(str::to_owned), over: Box::new(over) }
    }

    /// Codex thread that calls, as stated by the client: unverified, any text.
    pub fn thread(&self) -> Option<&str> {
        self.thread.as_deref()
    }

    /// Returns true if the call was cancelled or its caller has disconnected.
    pub fn is_over(&self) -> bool {
        (self.over)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_what_codex_says_it_is_and_nothing_else() {
        let thread = |meta: Value| {
            let meta = serde_json::from_value(meta).unwrap();
            CallContext::new(&meta, || false).thread().map(str::to_owned)
        };
        let codex = serde_json::json!({"callId": "c1", CODEX: {"thread_id": "01a2-x", "turn_id": "t"}});
        assert_eq!(thread(codex), Some("01a2-x".to_owned()));
        for other in [
            serde_json::json!({}),
            serde_json::json!({"thread_id": "x"}),
            serde_json::json!({CODEX: "x"}),
            serde_json::json!({CODEX: {"thread_id": 7}}),
        ] {
            assert_eq!(thread(other), None);
        }
    }
}
