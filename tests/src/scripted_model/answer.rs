//! Output items of the Responses API for a scripted answer.

use serde_json::{Value, json};

use super::call_id::CallId;
use super::next::Poll;
use super::script::{Answer, Call, Command};

/// Maximum wait of an empty `write_stdin`, in milliseconds; the call returns as soon as the command ends.
const POLL_YIELD_MS: u64 = 300_000;

/// Returns the output items of a turn; `nonce` is the number of input items of the request that the turn answers.
pub fn items(answer: &Answer, turn: usize, nonce: usize) -> Vec<Value> {
    let reasoning = answer.reasoning.as_ref().map(|text| {
        json!({"type": "reasoning", "id": format!("rs_t{turn}n{nonce}"),
               "summary": [{"type": "summary_text", "text": text}]})
    });
    let text = answer.message.as_ref().map(|text| message(&format!("msg_t{turn}n{nonce}"), text));
    let calls = answer.calls.iter().enumerate();
    let calls = calls.map(|(index, call)| tool_call(call, CallId { turn, call: index, poll: 0, nonce }));
    reasoning.into_iter().chain(text).chain(calls).collect()
}

/// Returns the item of a message of the model.
pub fn message(id: &str, text: &str) -> Value {
    json!({"type": "message", "role": "assistant", "id": id,
           "content": [{"type": "output_text", "text": text}]})
}

/// Returns the item of the call that waits for a running command.
pub fn poll(poll: &Poll) -> Value {
    let arguments = json!({"session_id": poll.session, "chars": "", "yield_time_ms": POLL_YIELD_MS});
    function_call("write_stdin", poll.id, &arguments)
}

fn tool_call(call: &Call, id: CallId) -> Value {
    match call {
        Call::Command(command) => function_call("exec_command", id, &arguments(command)),
        Call::Plan(plan) => function_call("update_plan", id, &json!({ "plan": plan })),
        Call::Patch(patch) => json!({"type": "custom_tool_call", "id": format!("ctc_{id}"),
                                     "call_id": id.to_string(), "name": "apply_patch", "input": patch}),
        Call::Search(query) => json!({"type": "tool_search_call", "id": format!("tsc_{id}"),
                                      "call_id": id.to_string(), "execution": "client", "status": "completed",
                                      "arguments": {"query": query}}),
        Call::Tool(tool) => {
            let mut call = function_call(&tool.name, id, &tool.arguments);
            call["namespace"] = format!("mcp__{}", tool.server).into();
            call
        }
    }
}

fn arguments(command: &Command) -> Value {
    let mut arguments = json!({"cmd": command.cmd, "yield_time_ms": command.yield_time_ms});
    if let Some(workdir) = &command.workdir {
        arguments["workdir"] = workdir.as_str().into();
    }
    arguments
}

fn function_call(name: &str, id: CallId, arguments: &Value) -> Value {
    json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id.to_string(),
           "name": name, "arguments": arguments.to_string()})
}

#[cfg(test)]
mod tests {
    use super::super::script::ToolCall;
    use super::*;

    #[test]
    fn an_answer_holds_its_texts_before_its_calls() {
        let command = Command {
            cmd: "make".into(),
            yield_time_ms: 250,
            workdir: Some("sub".into()),
            background: false,
        };
        let answer = Answer {
            reasoning: Some("hm".into()),
            message: Some("on it".into()),
            calls: vec![Call::Command(command), Call::Patch("*** Begin Patch".into())],
            ..Answer::default()
        };
        let expected = json!([
            {"type": "reasoning", "id": "rs_t2n9", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "id": "msg_t2n9", "content": [{"type": "output_text", "text": "on it"}]},
            {"type": "function_call", "id": "fc_t2c0p0n9", "call_id": "t2c0p0n9", "name": "exec_command",
             "arguments": r#"{"cmd":"make","yield_time_ms":250,"workdir":"sub"}"#},
            {"type": "custom_tool_call", "id": "ctc_t2c1p0n9", "call_id": "t2c1p0n9", "name": "apply_patch", "input": "*** Begin Patch"}
        ]);
        similar_asserts::assert_eq!(Value::from(items(&answer, 2, 9)), expected);
    }

    #[test]
    fn a_tool_of_an_mcp_server_is_searched_for_and_called_in_its_namespace() {
        let status =
            ToolCall { server: "relay".into(), name: "status".into(), arguments: json!({"job": "a"}) };
        let calls = vec![Call::Search("workers".into()), Call::Tool(status)];
        let items = items(&Answer { calls, ..Answer::default() }, 0, 3);
        let expected = json!([
            {"type": "tool_search_call", "id": "tsc_t0c0p0n3", "call_id": "t0c0p0n3", "execution": "client",
             "status": "completed", "arguments": {"query": "workers"}},
            {"type": "function_call", "id": "fc_t0c1p0n3", "call_id": "t0c1p0n3", "name": "status",
             "arguments": r#"{"job":"a"}"#, "namespace": "mcp__relay"}
        ]);
        similar_asserts::assert_eq!(Value::from(items), expected);
    }

    #[test]
    fn a_poll_waits_without_writing() {
        let id = "t0c0p1n9".parse().unwrap();
        let call = poll(&Poll { id, session: 77 });
        assert_eq!(call["name"], "write_stdin");
        assert_eq!(call["arguments"], r#"{"session_id":77,"chars":"","yield_time_ms":300000}"#);
    }
}
