//! Parser of an input line: a line is a JSON-RPC message, or an error to send.

use rmcp::model::{ClientJsonRpcMessage, ErrorData, RequestId};
use serde_json::Value;

use super::stdin_lines::{InputLine, MAX_MESSAGE_SIZE};

#[derive(Debug)]
pub(super) enum ParsedLine {
    Message(Box<ClientJsonRpcMessage>),
    /// A line that is no message: the error to send, and the id in the line if it could be found.
    Invalid(ErrorData, Option<RequestId>),
    /// A blank line or an unknown notification, which needs no answer.
    Ignored,
}

pub(super) fn parse_line(line: &InputLine) -> ParsedLine {
    let bytes = match line {
        // Some clients on Windows send a byte order mark first.
        InputLine::Whole(bytes) => bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes),
        InputLine::TooLong(head) => {
            let text =
                format!("the message is longer than {MAX_MESSAGE_SIZE} bytes: put long texts into files");
            return ParsedLine::Invalid(ErrorData::invalid_request(text, None), find_id(head));
        }
    };
    if bytes.trim_ascii().is_empty() {
        return ParsedLine::Ignored;
    }
    match serde_json::from_slice(bytes) {
        Ok(message) => ParsedLine::Message(Box::new(message)),
        Err(e) => invalid_line(bytes, &e),
    }
}

fn invalid_line(bytes: &[u8], error: &serde_json::Error) -> ParsedLine {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        let text = format!("not one line of JSON: {error}");
        return ParsedLine::Invalid(ErrorData::parse_error(text, None), find_id(bytes));
    };
    let id = value.get("id").and_then(|id| serde_json::from_value::<RequestId>(id.clone()).ok());
    if id.is_none() && value.get("method").is_some_and(Value::is_string) {
        return ParsedLine::Ignored;
    }
    let text = format!("not a known JSON-RPC 2.0 message: {error}");
    ParsedLine::Invalid(ErrorData::invalid_request(text, None), id)
}

/// Finds the id of a message that can't be parsed or is incomplete: the `id` field of the outermost object.
fn find_id(message: &[u8]) -> Option<RequestId> {
    let text = String::from_utf8_lossy(message);
    let (mut depth, mut position) = (0, 0);
    let mut last_string = None;
    while let Some(c) = text[position..].chars().next() {
        match c {
            '"' => {
                let mut strings = serde_json::Deserializer::from_str(&text[position..]).into_iter::<String>();
                let string = strings.next()?.ok()?;
                last_string = (depth == 1).then_some(string);
                position += strings.byte_offset();
                continue;
            }
            ':' if depth == 1 && last_string.as_deref() == Some("id") => {
                let mut values =
                    serde_json::Deserializer::from_str(&text[position + 1..]).into_iter::<RequestId>();
                let id = values.next()?.ok()?;
                // A value that ends where the bytes end may be incomplete.
                return (position + 1 + values.byte_offset() < text.len()).then_some(id);
            }
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        position += c.len_utf8();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (i32, Option<RequestId>) {
        match parse_line(&InputLine::Whole(text.as_bytes().to_vec())) {
            ParsedLine::Invalid(error, id) => (error.code.0, id),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_invalid_line_is_refused_with_its_id_if_that_can_be_found() {
        assert_eq!(refusal("{"), (-32700, None));
        assert_eq!(refusal("\u{0}\u{1}"), (-32700, None));
        assert_eq!(refusal(&"[".repeat(100_000)), (-32700, None));
        assert_eq!(refusal("[]"), (-32600, None));
        assert_eq!(refusal("7"), (-32600, None));
        assert_eq!(refusal(r#"{"jsonrpc":"2.0","id":7}"#), (-32600, Some(RequestId::Number(7))));
        assert!(
            matches!(parse_line(&InputLine::TooLong(vec![])), ParsedLine::Invalid(error, None) if error.code.0 == -32600)
        );
        assert!(matches!(
            parse_line(&InputLine::Whole(vec![0xff, 0xfe])),
            ParsedLine::Invalid(error, None) if error.code.0 == -32700
        ));
    }

    #[test]
    fn the_id_of_a_message_that_is_too_long_or_not_utf_8_is_found() {
        let id = |message: &[u8]| find_id(message);
        let head = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"id":9,"x":"aaaa"#;
        let ParsedLine::Invalid(error, Some(RequestId::Number(7))) =
            parse_line(&InputLine::TooLong(head.to_vec()))
        else {
            panic!("no id");
        };
        assert_eq!(error.code.0, -32600);
        let not_utf8 =
            b"{\"method\":\"x\",\"params\":{\"id\":9,\"a\":\"\xff\"},\"jsonrpc\":\"2.0\",\"id\":\"a:b\"}";
        assert!(matches!(
            parse_line(&InputLine::Whole(not_utf8.to_vec())),
            ParsedLine::Invalid(error, Some(RequestId::String(id))) if error.code.0 == -32700 && &*id == "a:b"
        ));
        assert_eq!(id(b"{\"a\":\"id\",\"b\":[{\"id\":3}]"), None);
        assert_eq!(id(b"{\"id\":"), None);
        assert_eq!(id(b"{\"id\":12"), None);
        assert_eq!(id(b"]]{\"id\":1}"), None);
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let ping = b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
        assert!(matches!(parse_line(&InputLine::Whole(ping.to_vec())), ParsedLine::Message(_)));
    }

    #[test]
    fn blank_lines_and_unknown_notifications_get_no_answer() {
        assert!(matches!(parse_line(&InputLine::Whole(b" \r".to_vec())), ParsedLine::Ignored));
        let ping = parse_line(&InputLine::Whole(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_vec()));
        assert!(matches!(ping, ParsedLine::Message(_)), "{ping:?}");
        let broken = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":7}"#;
        assert!(!matches!(parse_line(&InputLine::Whole(broken.to_vec())), ParsedLine::Invalid(..)));
    }
}
