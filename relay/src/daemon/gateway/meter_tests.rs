use common::event::Usage;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Returns the results of a body that arrives in pieces of these sizes, again and again.
fn readings(content_type: &str, body: &[u8], sizes: &[usize]) -> Vec<Reading> {
    let (mut meter, mut found, mut rest) = (Meter::new(content_type), Vec::new(), body);
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at(rest.len().min(*size));
        meter.feed(piece);
        found.extend(meter.take_reading());
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    found.extend(meter.finish());
    found
}

fn sse(events: &[Value]) -> String {
    let events: Vec<String> =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"])).collect();
    events.concat()
}

/// Returns an event that ends an answer, with a large output in it.
fn completed(input: u64, text: &str) -> Value {
    let details = json!({"cached_tokens": 10});
    let usage = json!({"input_tokens": input, "input_tokens_details": details, "output_tokens": 20,
                       "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": input + 20});
    let output = json!([{"type": "message", "usage": {"input_tokens": 7}, "content": [{"text": text}]}]);
    json!({"type": "response.completed", "response": {"id": "r", "output": output, "model": "gpt-5",
                                                "usage": usage, "error": null}})
}

fn metered(input: u64) -> Reading {
    let usage =
        Usage { input_tokens: input, cached_input_tokens: 10, output_tokens: 20, reasoning_output_tokens: 5 };
    Reading { usage: Some(usage), model: Some("gpt-5".to_owned()), ..Reading::default() }
}

#[test]
fn tokens_are_read_where_codex_reads_them() {
    let stream = sse(&[
        json!({"type": "response.created", "response": {"usage": {"input_tokens": 1}}}),
        json!({"type": "response.output_text.delta", "delta": "data: {\"type\":\"response.completed\"}\n\n"}),
        completed(100, "done"),
    ]);
    let found = readings("text/event-stream; charset=utf-8", stream.as_bytes(), &[7]);
    assert_eq!(found, [metered(100)]);
    let whole = completed(100, "done")["response"].to_string();
    assert_eq!(readings("application/json", whole.as_bytes(), &[7]), [metered(100)]);
    assert_eq!(readings("text/plain", b"usage: none", &[7]), []);
}

#[test]
fn tokens_of_the_messages_api_are_read_in_a_stream_and_in_one_piece() {
    let usage = |output: u64| {
        json!({"input_tokens": 70, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 10,
               "output_tokens": output})
    };
    let start = json!({"type": "message_start",
                       "message": {"id": "m", "content": [], "usage": usage(1), "model": "claude"}});
    let delta = json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 20}});
    let stop = json!({"type": "message_stop"});
    let whole =
        json!({"type": "message", "model": "claude", "content": [{"text": "usage"}], "usage": usage(20)});
    let counts =
        Usage { input_tokens: 100, cached_input_tokens: 10, output_tokens: 20, reasoning_output_tokens: 0 };
    let expected =
        [Reading { usage: Some(counts), model: Some("claude".to_owned()), error: None, cache_written: 20 }];
    let stream = sse(&[start.clone(), json!({"type": "ping"}), delta, stop.clone()]);
    for size in [1, 7, 1000] {
        assert_eq!(readings("text/event-stream", stream.as_bytes(), &[size]), expected);
        assert_eq!(readings("application/json", whole.to_string().as_bytes(), &[size]), expected);
    }
    assert_eq!(readings("text/event-stream", sse(&[start]).as_bytes(), &[9]), []);
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let found = readings("text/event-stream", sse(&[error, stop]).as_bytes(), &[9]);
    assert_eq!(found[0].error.as_ref().map(|error| &*error.kind), Some("overloaded_error"));
}

#[test]
fn the_first_bytes_tell_the_format_where_the_content_type_does_not() {
    let stream = sse(&[completed(100, "done")]);
    let whole = completed(100, "done")["response"].to_string();
    for content_type in
        ["", "text/plain", "application/octet-stream", "application/json", "text/event-stream"]
    {
        for body in [
            &stream,
            &whole,
            &format!("\u{feff}{stream}"),
            &format!(" \n{whole}"),
            &format!(": ping\n\n{stream}"),
        ] {
            assert_eq!(
                readings(content_type, body.as_bytes(), &[1]),
                [metered(100)],
                "{content_type} {body}"
            );
        }
    }
}

#[test]
fn token_counts_have_other_names_and_forms_and_none_is_no_count() {
    let usage = |usage: Value| {
        let body = json!({ "usage": usage }).to_string();
        let reading = readings("application/json", body.as_bytes(), &[9]).pop()?;
        reading.usage.map(|usage| (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens))
    };
    let older =
        json!({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens": 3});
    assert_eq!(usage(older), Some((7, 2, 3)));
    assert_eq!(usage(json!({"input_tokens": 7.0, "output_tokens": 3.0})), Some((7, 0, 3)));
    assert_eq!(usage(json!({"output_tokens": 3})), Some((0, 0, 3)));
    for none in [
        json!({}),
        json!({"total_tokens": 5}),
        json!({"input_tokens": 1.5, "output_tokens": -1}),
        json!(null),
    ] {
        assert_eq!(usage(none.clone()), None, "{none}");
    }
}

#[test]
fn an_error_within_a_stream_is_read_in_all_its_forms() {
    let error = |code: &str, message: &str| ErrorFields {
        code: code.to_owned(),
        message: message.to_owned(),
        ..ErrorFields::default()
    };
    for (event, expected) in [
        (
            json!({"type": "response.failed", "response": {"error": {"code": "c", "message": "m"}}}),
            error("c", "m"),
        ),
        (json!({"type": "response.failed", "response": {}}), error("", "")),
        (json!({"type": "error", "code": "c", "message": "m", "param": null}), error("c", "m")),
        (json!({"type": "error", "error": {"code": "c", "message": "m"}}), error("c", "m")),
        (json!({"type": "error", "error": "m"}), error("", "m")),
    ] {
        let found = readings("text/event-stream", sse(std::slice::from_ref(&event)).as_bytes(), &[3]);
        assert_eq!(found, [Reading { error: Some(expected), ..Reading::default() }], "{event}");
    }
}

#[test]
fn a_stream_that_breaks_off_or_is_garbage_has_no_result() {
    let whole = sse(&[completed(1, "x")]);
    for body in [
        &whole[..whole.len() - 1],
        "",
        "data: {\n\n",
        "data: [DONE]\n\n",
        "data: {\"type\":3}\n\n",
        "\0\u{ff}",
    ] {
        assert_eq!(readings("text/event-stream", body.as_bytes(), &[5]), [], "{body:?}");
    }
    let odd = json!({"type": "response.completed", "response": {"usage": {"input_tokens": -1, "output_tokens": 1e99}}});
    let found = readings("text/event-stream", sse(&[odd]).as_bytes(), &[5]);
    assert_eq!(found, [Reading::default()]);
}

proptest! {
    #[test]
    fn the_pieces_of_a_stream_do_not_matter(
        input in any::<u32>(),
        text in any::<String>(),
        sizes in prop::collection::vec(1_usize..200, 1..20),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let delta = json!({"type": "response.output_text.delta", "delta": text});
        let stream = sse(&[delta, completed(input.into(), &text)]).replace('\n', line_end);
        let found = readings("text/event-stream", stream.as_bytes(), &sizes);
        prop_assert_eq!(found, [metered(input.into())]);
    }

    #[test]
    fn no_body_makes_the_meter_fail(
        body in prop::collection::vec(any::<u8>(), 0..500),
        sizes in prop::collection::vec(1_usize..50, 1..5),
        json in any::<bool>(),
    ) {
        let content_type = if json { "application/json" } else { "text/event-stream" };
        let in_pieces = readings(content_type, &body, &sizes);
        prop_assert_eq!(in_pieces, readings(content_type, &body, &[1000]));
    }

    #[test]
    fn what_looks_like_json_is_read_like_json(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\"type\"", "\"usage\"", "\"response\"", "\"response.completed\"",
            "1", " ", "null", "{\"input_tokens\":3}",
        ]), 0..40),
        sizes in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let text = format!("{{{}}}", tokens.concat());
        let found = readings("application/json", text.as_bytes(), &sizes);
        let expected = serde_json::from_str::<Value>(&text).ok();
        if let Some(value) = expected {
            let own = value.get("usage");
            let inner = value.get("response").and_then(|response| response.get("usage"));
            // With both, the later one counts.
            prop_assume!(own.is_none() || inner.is_none());
            let is_found = own.or(inner).is_some_and(|usage| usage["input_tokens"].is_u64());
            prop_assert_eq!(!found.is_empty(), is_found, "{}", text);
        }
    }
}
