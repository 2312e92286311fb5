//! A line → a message of JSON-RPC, or why it is none.

use rmcp::model::{ClientJsonRpcMessage, ErrorData, RequestId};
use serde_json::Value;

use super::door::{Line, MAX_MESSAGE};

/// What a line is.
#[derive(Debug)]
pub(super) enum Frame {
    /// A message.
    Message(Box<ClientJsonRpcMessage>),
    /// None; its sender is told why, under the id that could be found.
    Refused(ErrorData, Option<RequestId>),
    /// Nothing that wants an answer: a blank line, a notification that is not known.
    Nothing,
}

/// Reads a line.
pub(super) fn read(line: &Line) -> Frame {
    let Line::Whole(bytes) = line else {
        let text = format!("the message is longer than {MAX_MESSAGE} bytes: put long texts into files");
        return Frame::Refused(ErrorData::invalid_request(text, None), None);
    };
    if bytes.trim_ascii().is_empty() {
        return Frame::Nothing;
    }
    match serde_json::from_slice(bytes) {
        Ok(message) => Frame::Message(Box::new(message)),
        Err(e) => refusal(bytes, &e),
    }
}

fn refusal(bytes: &[u8], error: &serde_json::Error) -> Frame {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return Frame::Refused(ErrorData::parse_error(format!("not one line of JSON: {error}"), None), None);
    };
    let id = value.get("id").and_then(|id| serde_json::from_value::<RequestId>(id.clone()).ok());
    if id.is_none() && value.get("method").is_some_and(Value::is_string) {
        return Frame::Nothing;
    }
    let text = format!("no message of JSON-RPC 2.0 that is known here: {error}");
    Frame::Refused(ErrorData::invalid_request(text, None), id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (i32, Option<RequestId>) {
        match read(&Line::Whole(text.as_bytes().to_vec())) {
            Frame::Refused(error, id) => (error.code.0, id),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_no_message_is_refused_under_the_id_that_could_be_found() {
        assert_eq!(refused("{"), (-32700, None));
        assert_eq!(refused("\u{0}\u{1}"), (-32700, None));
        assert_eq!(refused(&"[".repeat(100_000)), (-32700, None));
        assert_eq!(refused("[]"), (-32600, None));
        assert_eq!(refused("7"), (-32600, None));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":7}"#), (-32600, Some(RequestId::Number(7))));
        assert!(matches!(read(&Line::TooLong), Frame::Refused(error, None) if error.code.0 == -32600));
        assert!(matches!(
            read(&Line::Whole(vec![0xff, 0xfe])),
            Frame::Refused(error, None) if error.code.0 == -32700
        ));
    }

    #[test]
    fn blank_lines_and_unknown_notifications_want_no_answer() {
        assert!(matches!(read(&Line::Whole(b" \r".to_vec())), Frame::Nothing));
        let ping = read(&Line::Whole(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_vec()));
        assert!(matches!(ping, Frame::Message(_)), "{ping:?}");
        let broken = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":7}"#;
        assert!(!matches!(read(&Line::Whole(broken.to_vec())), Frame::Refused(..)));
    }
}
