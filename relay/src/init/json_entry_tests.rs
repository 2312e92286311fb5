//! Entries in a person's file.

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

fn written(text: Option<&str>) -> String {
    match decide_json(&entries(), text, PUT).unwrap() {
        Decision { change: FileChange::Write(text), kept_reason: None, keep_copy: false } => text,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn entries_come_and_go_and_leave_every_byte_of_the_rest() {
    for text in [
        "{\n  \"a\": 1\n}\n",
        "{\n\t\"a\": [1,2],\n\t\"b\": { \"c\": null }\n}",
        "{\n    \"permissions\": {\n        \"allow\": [\n            \"Bash(ls)\"\n        ],\n        \"deny\": []\n    }\n}\n",
        "{\n  \"permissions\": { \"allow\": [\"Bash(ls)\", \"Bash(cat:*)\"] },\n  // why\n  \"z\": 1e3\n}\n",
        "{\n  \"hooks\": {\n    \"Stop\": [\n      {\n        \"hooks\": [\n          {\"type\": \"command\", \"command\": \"say done\"}\n        ]\n      }\n    ]\n  }\n}\n",
        "{\r\n  \"mcpServers\": {\r\n    \"x\": {}\r\n  }\r\n}\r\n",
    ] {
        let with = written(Some(text));
        assert_eq!(decide_json(&entries(), Some(&with), PUT).unwrap(), Decision::nothing(), "{with}");
        let gone = decide_json(&entries(), Some(&with), Mode::Remove).unwrap();
        similar_asserts::assert_eq!(gone.change, FileChange::Write(text.to_owned()), "{with}");
    }
    // A single line becomes several, which stay; the values stay too.
    let gone = decide_json(&entries(), Some(&written(Some("{\"a\":1}"))), Mode::Remove).unwrap();
    assert_eq!(gone.change, FileChange::Write("{\n  \"a\":1\n}".to_owned()));
    let made = written(None);
    assert_eq!(decide_json(&entries(), Some(&made), PUT).unwrap(), Decision::nothing());
    assert_eq!(decide_json(&entries(), Some(&made), Mode::Remove).unwrap(), Decision::delete());
    assert_eq!(decide_json(&entries(), None, Mode::Remove).unwrap(), Decision::nothing());
}

#[test]
fn what_a_person_changed_stays_while_the_rest_is_written() {
    let theirs = "{\"mcpServers\": {\"relay\": {\"command\": \"/opt/relay\"}}, \
                  \"hooks\": {\"Stop\": [{\"hooks\": [{\"command\": \"relay hook Stop\", \"timeout\": 99}]}]}}";
    let judged = decide_json(&entries(), Some(theirs), PUT).unwrap();
    assert_eq!(judged.kept_reason.as_deref(), Some("mcpServers.relay, hooks.Stop changed by hand"));
    let FileChange::Write(text) = judged.change else { panic!("{judged:?}") };
    assert!(
        text.contains("/opt/relay") && text.contains("99") && text.contains("Bash(relay down)"),
        "{text}"
    );
    let removed = decide_json(&entries(), Some(&text), Mode::Remove).unwrap();
    assert_eq!(removed.kept_reason, judged.kept_reason);
    let forced = decide_json(&entries(), Some(theirs), Mode::Put { force: true }).unwrap();
    assert_eq!((forced.kept_reason, forced.keep_copy), (None, true));
    let FileChange::Write(text) = forced.change else { panic!() };
    assert!(!text.contains("/opt/relay") && !text.contains("99"), "{text}");
}

#[test]
fn what_can_not_be_read_is_an_error_that_tells_why() {
    for (text, why) in [
        ("{", "Unterminated"),
        ("[]", "not a JSON object"),
        ("{a: 1}", "Expected string"),
        ("{\"mcpServers\": 1}", "mcpServers is not an object"),
        ("{\"permissions\": {\"allow\": {}}}", "allow is not an array"),
    ] {
        let error = decide_json(&entries(), Some(text), PUT).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
