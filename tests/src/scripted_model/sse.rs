//! Streams of server-sent events in the format of the Responses API.

use serde_json::{Value, json};

use super::script::Usage;

/// Returns a complete stream: beginning, items and end.
pub fn completed(response: &str, items: &[Value], usage: Usage) -> String {
    created(response) + &remainder(response, items, usage)
}

/// Returns a stream of items and end, without the beginning.
pub fn remainder(response: &str, items: &[Value], usage: Usage) -> String {
    let done = items.iter().enumerate().map(|(index, item)| {
        event(&json!({"type": "response.output_item.done", "output_index": index, "item": item}))
    });
    let end = event(&json!({"type": "response.completed",
        "response": {"id": response, "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens}}}));
    done.chain(std::iter::once(end)).collect()
}

/// Returns a stream that ends in a failure.
pub fn failed(response: &str, code: &str, message: &str) -> String {
    let end = event(&json!({"type": "response.failed",
        "response": {"id": response, "error": {"code": code, "message": message}}}));
    created(response) + &end
}

/// Returns the first half of a stream, ending in the middle of a message.
pub fn first_half(response: &str) -> String {
    beginning(response) + &delta("I was about to")
}

/// Returns the beginning of a stream: it opens a message, and has none of its text.
pub fn beginning(response: &str) -> String {
    let item = json!({"type": "message", "role": "assistant", "id": "msg_half", "content": []});
    created(response)
        + &event(&json!({"type": "response.output_item.added", "output_index": 0, "item": item}))
}

/// Returns a piece of the message that [`beginning`] opened.
pub fn delta(text: &str) -> String {
    event(&json!({"type": "response.output_text.delta", "item_id": "msg_half",
        "output_index": 0, "content_index": 0, "delta": text}))
}

fn created(response: &str) -> String {
    event(&json!({"type": "response.created", "response": {"id": response}}))
}

/// Formats one event. Compact JSON contains no line break, so one `data:` line is enough.
fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_created_filled_and_completed() {
        let text = completed("r1", &[json!({"type": "message", "x": "a\nb"})], Usage::default());
        insta::assert_snapshot!(text, @r#"
        event: response.created
        data: {"type":"response.created","response":{"id":"r1"}}

        event: response.output_item.done
        data: {"type":"response.output_item.done","output_index":0,"item":{"type":"message","x":"a\nb"}}

        event: response.completed
        data: {"type":"response.completed","response":{"id":"r1","usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":10},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":120}}}
        "#);
    }

    #[test]
    fn a_failed_stream_ends_with_the_error() {
        insta::assert_snapshot!(failed("r1", "server_error", "boom"), @r#"
        event: response.created
        data: {"type":"response.created","response":{"id":"r1"}}

        event: response.failed
        data: {"type":"response.failed","response":{"id":"r1","error":{"code":"server_error","message":"boom"}}}
        "#);
    }

    #[test]
    fn half_a_stream_has_no_end() {
        let text = first_half("r1");
        assert!(text.contains("response.output_text.delta") && !text.contains("response.completed"));
    }
}
