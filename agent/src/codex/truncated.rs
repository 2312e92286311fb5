//! Recovery of fields from an over-long line. Pure.
//!
//! The head is an incomplete JSON text, of which the complete fields are read. The tail is searched for a command's
//! last two fields, and for the end of the output before them. Inside a JSON string every quote has a backslash before
//! it, so `,"exit_code":` without backslashes can only be the field, whatever the command printed.

use serde_json::{Map, Value};

/// Field that is added to a recovered item: length of the output before the gap, in bytes.
pub(super) const OUTPUT_HEAD_FIELD: &str = "relay_head";

/// Returns the object of a truncated line, with the fields that can be recovered.
pub(super) fn recover_fields(head: &[u8], tail: &[u8]) -> Option<Value> {
    let head = String::from_utf8_lossy(head);
    let mut fields = complete_fields(&head)?;
    let tail = String::from_utf8_lossy(tail);
    if let Some(Value::Object(item)) = fields.get_mut("item") {
        for name in ["exit_code", "status"] {
            if let Some(value) = last_field(&tail, name) {
                item.insert(name.to_owned(), value);
            }
        }
        join_output(item, &tail);
    }
    Some(Value::Object(fields))
}

/// Appends the end of a command's output to its beginning.
fn join_output(item: &mut Map<String, Value>, tail: &str) {
    let Some(end) = tail.rfind("\",\"exit_code\":") else { return };
    let Some(Value::String(begin)) = item.get("aggregated_output") else {
        // The line was truncated before the output field, which may be complete in the tail.
        let mark = ",\"aggregated_output\":";
        let whole = tail[..end].rfind(mark).and_then(|at| split_string(&tail[at + mark.len()..]));
        let output = whole.map(|(output, _)| output).or_else(|| string_end(&tail[..end]));
        if let Some(output) = output {
            item.insert("aggregated_output".to_owned(), Value::String(output));
        }
        return;
    };
    if let Some(last) = string_end(&tail[..end]) {
        let (at, joined) = (begin.len(), format!("{begin}{last}"));
        item.insert(OUTPUT_HEAD_FIELD.to_owned(), Value::from(at));
        item.insert("aggregated_output".to_owned(), Value::String(joined));
    }
}

/// Returns the end of a JSON string from a text that may begin inside an escape.
fn string_end(text: &str) -> Option<String> {
    let starts = text.char_indices().map(|(at, _)| at).take(12);
    starts.chain([text.len()]).find_map(|begin| serde_json::from_str(&format!("\"{}\"", &text[begin..])).ok())
}

/// Returns the fields of the outermost object and of the objects directly inside it whose values are complete scalars.
/// An incomplete string counts, up to its last complete character.
fn complete_fields(text: &str) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    let mut rest = text.trim_start().strip_prefix('{')?;
    let mut outer_name: Option<String> = None;
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            rest = after;
            if outer_name.take().is_none() {
                return Some(fields);
            }
            continue;
        }
        let Some((name, after)) = split_string(rest).filter(|(_, after)| !after.is_empty()) else {
            return Some(fields);
        };
        let Some(value) = after.trim_start().strip_prefix(':').map(str::trim_start) else {
            return Some(fields);
        };
        if outer_name.is_none() && value.starts_with('{') {
            fields.insert(name.clone(), Value::Object(Map::new()));
            outer_name = Some(name);
            rest = &value[1..];
            continue;
        }
        let Some((value, after)) = split_scalar(value) else { return Some(fields) };
        match outer_name.as_ref().and_then(|name| fields.get_mut(name)) {
            Some(Value::Object(inner)) => inner.insert(name, value),
            _ => fields.insert(name, value),
        };
        rest = after;
    }
}

/// Splits a JSON string off the front of `text`; returns it and the rest. A string without an end is closed.
fn split_string(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let value = serde_json::from_str(&text[..at + 2]).ok()?;
                return Some((value, &body[at + 1..]));
            }
            _ => {}
        }
    }
    // The text may end within an escape (six characters) or a pair of escapes. Without that rest it is a valid string.
    let ends = body.char_indices().rev().map(|(at, _)| at).take(12);
    let closed = [body.len()]
        .into_iter()
        .chain(ends)
        .find_map(|end| serde_json::from_str(&format!("\"{}\"", &body[..end])).ok());
    closed.map(|value| (value, ""))
}

/// Splits `text` after the value at its beginning. The value must be neither an object nor a list.
fn split_scalar(text: &str) -> Option<(Value, &str)> {
    if text.starts_with('"') {
        return split_string(text).map(|(value, rest)| (Value::String(value), rest));
    }
    let end = text.find([',', '}'])?;
    let value = serde_json::from_str(text[..end].trim()).ok()?;
    Some((value, &text[end..]))
}

/// Returns the value of the last field with this name in the tail of an object.
fn last_field(tail: &str, name: &str) -> Option<Value> {
    let mark = format!(",\"{name}\":");
    let at = tail.rfind(&mark)? + mark.len();
    split_scalar(&tail[at..]).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OUTPUT_HEAD: &str = r#"{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"/bin/bash -lc 'x \"y\"'","aggregated_output":"one\ntwo"#;

    #[test]
    fn exit_code_and_status_follow_a_huge_output() {
        let tail =
            r#"fake \",\"exit_code\":0,\"status\":\"completed\" more","exit_code":7,"status":"failed"}}"#;
        let expected = json!({"type":"item.completed","item":{
            "id":"item_1","type":"command_execution","command":"/bin/bash -lc 'x \"y\"'",
            "aggregated_output":"one\ntwofake \",\"exit_code\":0,\"status\":\"completed\" more",
            "relay_head":7,"exit_code":7,"status":"failed"}});
        similar_asserts::assert_eq!(recover_fields(OUTPUT_HEAD.as_bytes(), tail.as_bytes()), Some(expected));
    }

    #[test]
    fn all_complete_fields_are_read_wherever_the_head_ends() {
        for len in 0..OUTPUT_HEAD.len() {
            let recovered = recover_fields(&OUTPUT_HEAD.as_bytes()[..len], b"");
            if len > 90 {
                let value = recovered.unwrap();
                assert_eq!(value["item"]["type"], "command_execution", "length {len}");
            }
        }
        assert_eq!(recover_fields(b"[1,2", b""), None);
    }

    #[test]
    fn the_last_line_of_a_huge_output_is_kept_wherever_the_tail_begins() {
        let tail = r#"\u00e4\\ \"x\" error: the cause\n","exit_code":1,"status":"failed"}}"#;
        for begin in 0..15 {
            let value = recover_fields(OUTPUT_HEAD.as_bytes(), &tail.as_bytes()[begin..]).unwrap();
            let output = value["item"]["aggregated_output"].as_str().unwrap();
            assert!(
                output.starts_with("one\ntwo") && output.ends_with("error: the cause\n"),
                "{begin}: {output}"
            );
        }
    }

    #[test]
    fn an_incomplete_escape_at_the_end_is_left_out() {
        let value = recover_fields(br#"{"type":"item.completed","item":{"text":"ab\u00"#, b"").unwrap();
        assert_eq!(value["item"]["text"], "ab");
    }
}
