//! Answer of a hook.

use serde_json::{Value, json};

use super::decide::HookResponse;

/// Text in front of the notices that continue a turn.
const BEFORE_YOU_STOP: &str =
    "Before you stop: what you delegated has ended. Tell your user what came of it.";

/// Builds the JSON that passes `text` to the session; `None` if nothing is passed.
pub fn response_json(kind: HookResponse, text: &str) -> Option<Value> {
    match kind {
        HookResponse::Nothing => None,
        HookResponse::Context(event) => Some(json!({
            "hookSpecificOutput": {"hookEventName": event.name(), "additionalContext": text}
        })),
        HookResponse::ContinueTurn => {
            Some(json!({"decision": "block", "reason": format!("{BEFORE_YOU_STOP}\n\n{text}")}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::call::HookEvent;

    #[test]
    fn an_end_is_context_within_a_turn_and_a_reason_to_go_on_at_its_end() {
        let context = response_json(HookResponse::Context(HookEvent::PostToolUse), "a#1 completed");
        let expected =
            r#"{"hookSpecificOutput":{"hookEventName":"PostToolUse","additionalContext":"a#1 completed"}}"#;
        assert_eq!(context.unwrap().to_string(), expected);
        let reason = response_json(HookResponse::ContinueTurn, "a#1 completed").unwrap();
        assert_eq!(reason["decision"], "block");
        assert_eq!(reason["reason"], format!("{BEFORE_YOU_STOP}\n\na#1 completed"));
        assert_eq!(response_json(HookResponse::Nothing, "a#1 completed"), None);
    }
}
