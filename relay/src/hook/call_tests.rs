use super::*;

/// Calls of a hook: one that Codex 0.169 made, and one from the hooks reference of Claude Code.
const CODEX_CALL: &str = r#"{"session_id":"01a203ca-9b3a-74f0-a0f9-92040009a617","turn_id":"01a203ca-9b54","transcript_path":"/h/.codex/sessions/2026/01/02/rollout-2026-01-02T03-04-05-01a203ca.jsonl","cwd":"/w","hook_event_name":"PostToolUse","model":"gpt-5.5","permission_mode":"default","tool_name":"Bash","tool_input":{"command":"ls"},"tool_use_id":"exec-1","tool_response":"x"}"#;
const CLAUDE_CALL: &str = r#"{"session_id":"abc123","transcript_path":"/h/.claude/projects/w/00893aaf-19fa-41d2-8238-13269b9b3ca0.jsonl","cwd":"/w","permission_mode":"default","hook_event_name":"PostToolUse","tool_name":"Write","tool_input":{"file_path":"/w/f","content":"x"},"tool_response":{"filePath":"/w/f","success":true},"tool_use_id":"toolu_01ABC123"}"#;

fn parse_in_claude_env(json: &str) -> HookCall {
    parse_call(None, json.as_bytes(), true).unwrap()
}

#[test]
fn calls_of_codex_and_claude_code_are_parsed_and_distinguished() {
    let claude = HookCall {
        event: Some(HookEvent::PostToolUse),
        session: "abc123".into(),
        agent: "claude",
        cwd: "/w".into(),
        was_compacted: false,
        was_continued_by_hook: false,
        is_from_subagent: false,
    };
    assert_eq!(parse_in_claude_env(CLAUDE_CALL), claude);
    let codex = HookCall { session: "01a203ca-9b3a-74f0-a0f9-92040009a617".into(), agent: "codex", ..claude };
    assert_eq!(parse_in_claude_env(CODEX_CALL), codex);
    assert_eq!(parse_call(None, CODEX_CALL.as_bytes(), false), Ok(codex));
}

#[test]
fn an_event_named_on_the_command_line_overrides_the_event_in_the_json() {
    let event = |name| parse_call(name, CODEX_CALL.as_bytes(), false).unwrap().event;
    assert_eq!(event(None), Some(HookEvent::PostToolUse));
    assert_eq!(event(Some("Stop")), Some(HookEvent::Stop));
    assert_eq!(event(Some("PreCompact")), None);
    assert_eq!(event(Some("stop")), None);
    for event in <HookEvent as strum::VariantArray>::VARIANTS {
        assert_eq!(event.name().parse(), Ok(*event));
    }
}

#[test]
fn compaction_hook_continuation_and_subagents_are_recognized() {
    let claude_call_with = |extra_fields: &str| {
        parse_in_claude_env(&CLAUDE_CALL.replacen('{', &format!("{{{extra_fields},"), 1))
    };
    assert!(claude_call_with(r#""source":"compact""#).was_compacted);
    assert!(!claude_call_with(r#""source":"startup""#).was_compacted);
    assert!(claude_call_with(r#""stop_hook_active":true"#).was_continued_by_hook);
    assert!(!claude_call_with(r#""stop_hook_active":false"#).was_continued_by_hook);
    assert!(claude_call_with(r#""agent_id":"a1","agent_type":"Explore""#).is_from_subagent);
    assert!(!claude_call_with(r#""agent_id":null"#).is_from_subagent);
}

#[test]
fn json_that_is_not_the_call_of_a_hook_is_refused() {
    for garbage in
        ["", "null", "[]", "{", "{}", r#"{"session_id":"a"}"#, r#"{"session_id":7,"cwd":"/"}"#, "\u{0}\u{1}"]
    {
        assert!(parse_call(Some("Stop"), garbage.as_bytes(), false).is_err(), "{garbage}");
    }
    let error = parse_call(None, br#"{"session_id":"../../etc/x","cwd":"/"}"#, false).unwrap_err();
    assert_eq!(error, "session_id is not an id");
}
