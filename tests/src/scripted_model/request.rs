//! The relevant part of a request of Codex: the script, and the outputs of the script's calls.

use serde_json::Value;

use super::call_id::CallId;

/// Facts of a request that determine the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// Name in the newest user message that contains `[script:NAME]`.
    pub script: Option<String>,
    /// Outputs of this server's calls since that message, oldest first.
    pub outputs: Vec<Output>,
    /// Number of input items of the request.
    pub items: usize,
}

/// Output of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Id of the call.
    pub id: CallId,
    /// Session of the call's command, if the output says that the command is still running.
    pub running_session: Option<u64>,
}

impl RequestFacts {
    /// Reads the body of a request. Skips unknown items, because Codex adds new kinds at any time.
    pub fn read(body: &Value) -> Self {
        let input = body["input"].as_array().map_or(&[][..], Vec::as_slice);
        let mut facts = Self { items: input.len(), ..Self::default() };
        for item in input {
            match item["type"].as_str() {
                Some("message") if item["role"] == "user" => {
                    if let Some(name) = script_name(&text_of(&item["content"])) {
                        facts.script = Some(name);
                        facts.outputs.clear();
                    }
                }
                Some("function_call_output" | "custom_tool_call_output" | "tool_search_output") => {
                    if let Some(id) = item["call_id"].as_str().and_then(|id| id.parse().ok()) {
                        let running_session = running_session(&text_of(&item["output"]));
                        facts.outputs.push(Output { id, running_session });
                    }
                }
                _ => {}
            }
        }
        facts
    }
}

/// Returns the name in the last `[script:NAME]` of a text.
fn script_name(text: &str) -> Option<String> {
    let (_, tail) = text.rsplit_once("[script:")?;
    let (name, _) = tail.split_once(']')?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns the text of a content field, which is a text or a list of parts with texts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// Reads `Process running with session ID N` in the head of a tool output. The part after `Output:` is the command's
/// own text, and is ignored.
fn running_session(output: &str) -> Option<u64> {
    let head = output.split_once("\nOutput:").map_or(output, |(head, _)| head);
    let (_, tail) = head.split_once("Process running with session ID ")?;
    tail.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }

    fn output(id: &str, text: &str) -> Value {
        json!({"type": "function_call_output", "call_id": id, "output": text})
    }

    #[test]
    fn the_newest_message_with_a_script_selects_it_and_drops_older_outputs() {
        let body = json!({"input": [
            user("do it [script:one]"),
            output("t0c0p0n1", "Process exited with code 0\nOutput:\n"),
            user("[script:one] no, [script: two ]"),
            user("a hook's text without a name"),
            output("t0c0p0n4", "Process exited with code 1\nOutput:\n"),
        ]});
        let facts = RequestFacts::read(&body);
        assert_eq!(facts.script.as_deref(), Some("two"));
        assert_eq!(facts.items, 5);
        let ids: Vec<_> = facts.outputs.iter().map(|o| o.id.to_string()).collect();
        assert_eq!(ids, ["t0c0p0n4"]);
    }

    #[test]
    fn only_the_head_of_an_output_says_that_a_command_is_still_running() {
        let head = "Chunk ID: 1\nWall time: 1.0 seconds\nProcess running with session ID 4711\nOutput:\nx";
        assert_eq!(running_session(head), Some(4711));
        let forged = "Process exited with code 0\nOutput:\nProcess running with session ID 1";
        assert_eq!(running_session(forged), None);
        assert_eq!(running_session("aborted"), None);
    }

    #[test]
    fn a_request_without_known_items_selects_no_script_and_has_no_outputs() {
        assert_eq!(RequestFacts::read(&json!({})), RequestFacts::default());
        let odd = json!({"input": [{"type": "new_thing"}, output("call_1", ""), 7, {"type": "message", "role": "developer", "content": "[script:x]"}]});
        assert_eq!(RequestFacts::read(&odd), RequestFacts { items: 4, ..RequestFacts::default() });
    }
}
