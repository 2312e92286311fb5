//! The context of a tool call: its caller, and its cancellation.

use rmcp::model::RequestMetaObject;
use serde_json::Value;

/// Key in `_meta` of each call under which Codex describes the calling turn.
const CODEX_META_KEY: &str = "x-codex-turn-metadata";

/// Context of one call of a tool.
pub struct CallContext {
    codex_thread: Option<String>,
    is_cancelled: Box<dyn Fn() -> bool + Send>,
}

impl CallContext {
    /// Creates the context of a call with this `_meta`. The answer is not needed once `is_cancelled` returns true.
    pub(super) fn new(meta: &RequestMetaObject, is_cancelled: impl Fn() -> bool + Send + 'static) -> Self {
        let thread = meta.get(CODEX_META_KEY).and_then(|turn| turn.get("thread_id")).and_then(Value::as_str);
        Self { codex_thread: thread.map(str::to_owned), is_cancelled: Box::new(is_cancelled) }
    }

    /// Returns the Codex thread that makes the call, as stated by the client. The unverified value may be any text.
    pub fn codex_thread(&self) -> Option<&str> {
        self.codex_thread.as_deref()
    }

    /// Returns true if the call was cancelled or its caller has disconnected.
    pub fn is_cancelled(&self) -> bool {
        (self.is_cancelled)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_only_read_from_the_metadata_of_codex() {
        let thread = |meta: Value| {
            let meta = serde_json::from_value(meta).unwrap();
            CallContext::new(&meta, || false).codex_thread().map(str::to_owned)
        };
        let codex =
            serde_json::json!({"callId": "c1", CODEX_META_KEY: {"thread_id": "01a2-x", "turn_id": "t"}});
        assert_eq!(thread(codex), Some("01a2-x".to_owned()));
        for other in [
            serde_json::json!({}),
            serde_json::json!({"thread_id": "x"}),
            serde_json::json!({CODEX_META_KEY: "x"}),
            serde_json::json!({CODEX_META_KEY: {"thread_id": 7}}),
        ] {
            assert_eq!(thread(other), None);
        }
    }
}
