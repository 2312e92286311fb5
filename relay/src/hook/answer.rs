//! Answer of a hook.

use serde_json::{Value, json};

use super::decide::Response;

/// Text in front of the notices that continue a turn.
const BEFORE_YOU_STOP: &str =
    "Before you stop: what you delegated has ended. Tell your user what came of it.";

/// Builds the JSON that gives `text` to the session; `None` if nothing is given.
pub fn response(give: Response, text: &str) -> Option<Value> {
    match give {
        Response::Nothing => None,
        Response::Context(event) => Some(json!({
            "hookSpecificOutput": {"hookEventName": event.name(), "additionalContext": text}
        })),
        Response::Reason => {
            Some(json!({"decision": "block", "reason": format!("{BEFORE_YOU_STOP}\n\n{text}")}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::call::Event;

    #[test]
    fn an_end_is_context_within_a_turn_and_a_reason_to_go_on_at_its_end() {
        let context = response(Response::Context(Event::PostToolUse), "a#1 completed");
        let expected =
            r#"{"hookSpecificOutput":{"hookEventName":"PostToolUse","additionalContext":"a#1 completed"}}"#;
        assert_eq!(context.unwrap().to_string(), expected);
        let reason = response(Response::Reason, "a#1 completed").unwrap();
        assert_eq!(reason["decision"], "block");
        assert_eq!(reason["reason"], format!("{BEFORE_YOU_STOP}\n\na#1 completed"));
        assert_eq!(response(Response::Nothing, "a#1 completed"), None);
    }
}
