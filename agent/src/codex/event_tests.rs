//! Tests with every kind of line that Codex 0.169.0 prints, and with lines that it should not print.

use super::*;

fn read(line: &str) -> CodexEvent {
    parse(&Line::Whole(line.as_bytes().to_vec())).unwrap()
}

/// One line of each kind, as observed.
const SAMPLES: &str = r#"
{"type":"thread.started","thread_id":"01a203ca-9b3a-74f0-a0f9-92040009a617"}
{"type":"turn.started"}
{"type":"item.completed","item":{"id":"item_0","type":"reasoning","text":"**Thinking** about it"}}
{"type":"item.completed","item":{"id":"item_1","type":"agent_message","text":"All done 0."}}
{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'echo hi; echo err >&2; exit 3'","aggregated_output":"","exit_code":null,"status":"in_progress"}}
{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc '...'","aggregated_output":"err\nhi\n","exit_code":3,"status":"failed"}}
{"type":"item.started","item":{"id":"item_4","type":"file_change","changes":[{"path":"/ws/hello.txt","kind":"add"}],"status":"in_progress"}}
{"type":"item.completed","item":{"id":"item_4","type":"file_change","changes":[{"path":"/ws/hello.txt","kind":"add"}],"status":"completed"}}
{"type":"item.started","item":{"id":"item_0","type":"mcp_tool_call","server":"rel","tool":"plain","arguments":{"x":"1"},"result":null,"error":null,"status":"in_progress"}}
{"type":"item.completed","item":{"id":"item_0","type":"mcp_tool_call","server":"rel","tool":"plain","arguments":{"x":"1"},"result":{"content":[{"type":"text","text":"called plain ..."}],"structured_content":{"ok":true}},"error":null,"status":"completed"}}
{"type":"item.completed","item":{"id":"item_0","type":"mcp_tool_call","server":"rel","tool":"plain","arguments":{},"result":null,"error":{"message":"MCP tool call requires approval, but approval policy is never"},"status":"failed"}}
{"type":"item.completed","item":{"id":"item_6","type":"web_search","id":"ws_1","query":"rust","action":{"type":"search","query":"rust"}}}
{"type":"item.started","item":{"id":"item_0","type":"todo_list","items":[{"text":"one","completed":false},{"text":"two","completed":false}]}}
{"type":"item.updated","item":{"id":"item_0","type":"todo_list","items":[{"text":"one","completed":true},{"text":"two","completed":false}]}}
{"type":"item.completed","item":{"id":"item_0","type":"todo_list","items":[{"text":"one","completed":true}]}}
{"type":"item.started","item":{"id":"item_1","type":"collab_tool_call","tool":"spawn_agent","sender_thread_id":"01a2..","receiver_thread_ids":[],"prompt":"say hi","agents_states":{},"status":"in_progress"}}
{"type":"item.completed","item":{"id":"item_1","type":"collab_tool_call","tool":"spawn_agent","receiver_thread_ids":["01a2.."],"agents_states":{"01a2..":{"status":"pending_init","message":null}},"status":"completed"}}
{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Model metadata for `gpt-5.4` not found. ..."}}
{"type":"error","message":"Reconnecting... 1/5 (unexpected status 503 Service Unavailable: mock error, url: http://...)"}
{"type":"turn.failed","error":{"message":"exceeded retry limit, last status: 429 Too Many Requests"}}
{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":10,"cache_write_input_tokens":0,"output_tokens":20,"reasoning_output_tokens":0}}
"#;

#[test]
fn every_observed_line_is_understood() {
    let events: Vec<_> = SAMPLES.trim().lines().map(read).collect();
    assert!(!events.iter().any(|event| matches!(event, CodexEvent::Unknown { .. })), "{events:#?}");
    insta::assert_debug_snapshot!(events);
}

#[test]
fn an_unknown_line_is_described_and_never_an_error() {
    for (line, what) in [
        ("nonsense", "a line that is not JSON"),
        ("[1]", ""),
        (r#"{"type":7}"#, ""),
        (r#"{"type":"turn.levitated"}"#, "turn.levitated"),
        ("{\"type\":\"item.completed\"", "a line that is not JSON"),
    ] {
        assert_eq!(read(line), CodexEvent::Unknown { description: what.to_owned() }, "{line}");
    }
    let other = read(r#"{"type":"item.completed","item":{"id":"i","type":"hologram"}}"#);
    let expected = CodexEvent::Item {
        phase: Phase::Completed,
        id: "i".into(),
        item: Item::UnknownType("hologram".into()),
    };
    assert_eq!(other, expected);
    assert_eq!(parse(&Line::Whole(b"  ".to_vec())), None);
    let deep = format!("{{\"type\":{}", "[".repeat(100_000));
    assert!(matches!(read(&deep), CodexEvent::Unknown { .. }));
}

#[test]
fn fields_of_the_wrong_type_read_as_empty() {
    let odd = read(
        r#"{"type":"item.completed","item":{"id":5,"type":"command_execution","command":null,"exit_code":"0","status":[]}}"#,
    );
    let item = Item::Command {
        command: String::new(),
        output: String::new(),
        gap: None,
        exit_code: None,
        failed: false,
    };
    assert_eq!(odd, CodexEvent::Item { phase: Phase::Completed, id: String::new(), item });
}

#[test]
fn invalid_utf_8_replaces_a_character_and_loses_no_line() {
    let line = b"{\"type\":\"error\",\"message\":\"a\xffb\"}".to_vec();
    assert_eq!(parse(&Line::Whole(line)), Some(CodexEvent::Error { message: "a\u{fffd}b".into() }));
}
