//! Tests with entries in a person's file.

use super::super::change::FileChange;
use super::*;

const PUT: Mode = Mode::Put { force: false };

fn entries() -> Vec<JsonEntry> {
    let group = json!({"hooks": [{"type": "command", "command": "relay hook Stop", "timeout": 10}]});
    vec![
        JsonEntry::Property {
            object_path: vec!["mcpServers"],
            name: "relay",
            value: json!({"command": "relay", "args": ["mcp"]}),
        },
        JsonEntry::Element {
            array_path: vec!["hooks", "Stop"],
            value: group,
            own_marker: Some("relay hook Stop"),
        },
        JsonEntry::Element {
            array_path: vec!["permissions", "allow"],
            value: json!("Bash(relay up)"),
            own_marker: None,
        },
        JsonEntry::Element {
            array_path: vec!["permissions", "allow"],
            value: json!("Bash(relay down)"),
            own_marker: None,
        },
    ]
}

fn written_text(text: Option<&str>) -> String {
    match decide_json(&entries(), text, PUT).unwrap() {
        Decision { change: FileChange::Write(text), kept_reason: None, keeps_copy: false } => text,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn entries_that_are_added_and_removed_change_no_other_byte() {
    for text in [
        "{\n  \"a\": 1\n}\n",
        "{\n\t\"a\": [1,2],\n\t\"b\": { \"c\": null }\n}",
        "{\n    \"permissions\": {\n        \"allow\": [\n            \"Bash(ls)\"\n        ],\n        \"deny\": []\n    }\n}\n",
        "{\n  \"permissions\": { \"allow\": [\"Bash(ls)\", \"Bash(cat:*)\"] },\n  // why\n  \"z\": 1e3\n}\n",
        "{\n  \"hooks\": {\n    \"Stop\": [\n      {\n        \"hooks\": [\n          {\"type\": \"command\", \"command\": \"say done\"}\n        ]\n      }\n    ]\n  }\n}\n",
        "{\r\n  \"mcpServers\": {\r\n    \"x\": {}\r\n  }\r\n}\r\n",
    ] {
        let text_with_entries = written_text(Some(text));
        assert_eq!(
            decide_json(&entries(), Some(&text_with_entries), PUT).unwrap(),
            Decision::nothing(),
            "{text_with_entries}"
        );
        let removal = decide_json(&entries(), Some(&text_with_entries), Mode::Remove).unwrap();
        similar_asserts::assert_eq!(
            removal.change,
            FileChange::Write(text.to_owned()),
            "{text_with_entries}"
        );
    }
    // A single line becomes several, which stay; the values stay too.
    let removal = decide_json(&entries(), Some(&written_text(Some("{\"a\":1}"))), Mode::Remove).unwrap();
    assert_eq!(removal.change, FileChange::Write("{\n  \"a\":1\n}".to_owned()));
    let created = written_text(None);
    assert_eq!(decide_json(&entries(), Some(&created), PUT).unwrap(), Decision::nothing());
    assert_eq!(decide_json(&entries(), Some(&created), Mode::Remove).unwrap(), Decision::delete());
    assert_eq!(decide_json(&entries(), None, Mode::Remove).unwrap(), Decision::nothing());
}

#[test]
fn entries_that_a_person_changed_stay_while_others_are_written() {
    let edited_text = "{\"mcpServers\": {\"relay\": {\"command\": \"/opt/relay\"}}, \
                  \"hooks\": {\"Stop\": [{\"hooks\": [{\"command\": \"relay hook Stop\", \"timeout\": 99}]}]}}";
    let decision = decide_json(&entries(), Some(edited_text), PUT).unwrap();
    assert_eq!(decision.kept_reason.as_deref(), Some("mcpServers.relay, hooks.Stop changed by hand"));
    let FileChange::Write(text) = decision.change else { panic!("{decision:?}") };
    assert!(
        text.contains("/opt/relay") && text.contains("99") && text.contains("Bash(relay down)"),
        "{text}"
    );
    let removed = decide_json(&entries(), Some(&text), Mode::Remove).unwrap();
    assert_eq!(removed.kept_reason, decision.kept_reason);
    let forced = decide_json(&entries(), Some(edited_text), Mode::Put { force: true }).unwrap();
    assert_eq!((forced.kept_reason, forced.keeps_copy), (None, true));
    let FileChange::Write(text) = forced.change else { panic!() };
    assert!(!text.contains("/opt/relay") && !text.contains("99"), "{text}");
}

#[test]
fn unreadable_json_is_an_error_that_names_the_reason() {
    for (text, reason) in [
        ("{", "Unterminated"),
        ("[]", "not a JSON object"),
        ("{a: 1}", "Expected string"),
        ("{\"mcpServers\": 1}", "mcpServers is not an object"),
        ("{\"permissions\": {\"allow\": {}}}", "allow is not an array"),
    ] {
        let error = decide_json(&entries(), Some(text), PUT).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
