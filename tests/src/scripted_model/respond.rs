//! HTTP handlers of the scripted model: they choose a response, record the request, and answer or fail.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::next::{Next, next};
use super::request::RequestFacts;
use super::script::{Act, Answer, DEFAULT, Fault, Scripts, Turn, Usage};
use super::server::{ReceivedRequest, Shared};
use super::{answer, sse};

/// Answers with an empty list of models. Codex requests the list from time to time, and keeps its own models if it is
/// empty.
pub(super) async fn models() -> Json<Value> {
    Json(json!({"models": [], "data": []}))
}

/// Answers one request of a model's response.
pub(super) async fn respond(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let authorization = text(&headers, header::AUTHORIZATION.as_str());
    if !shared.login().admits(authorization.as_deref()) {
        let error = json!({"error": {"message": "the token has expired", "code": "token_expired"}});
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    let facts = RequestFacts::read(&body);
    let name = facts.script.as_deref().unwrap_or(DEFAULT);
    let thread = text(&headers, "thread-id");
    let next_response = choose(&shared, name, thread.as_deref(), &facts);
    let turn = match &next_response {
        Some(Next::Play { index, .. }) => Some(*index),
        _ => None,
    };
    let (script, account) = (name.to_owned(), text(&headers, "chatgpt-account-id"));
    let number = shared.record(ReceivedRequest { script, turn, thread, authorization, account, body });
    let response = format!("resp_{number}");
    match next_response {
        None => unknown(name, &shared.scripts),
        Some(Next::Over) => {
            let last = answer::message("msg_over", &format!("The script {name} is over."));
            stream_of(sse::completed(&response, &[last], Usage::default()))
        }
        Some(Next::Poll(polls)) => {
            let items: Vec<_> = polls.iter().map(answer::poll).collect();
            stream_of(sse::completed(&response, &items, Usage::default()))
        }
        Some(Next::Play { index, turn }) => play(turn, index, facts.items, &response).await,
    }
}

/// Chooses the response. The log is locked only in this function, which does not await.
fn choose<'a>(
    shared: &'a Shared,
    name: &str,
    thread: Option<&str>,
    facts: &RequestFacts,
) -> Option<Next<'a>> {
    let script = shared.scripts.get(name)?;
    let log = shared.log();
    Some(next(script, facts, |turn| log.answered_requests(name, thread, turn)))
}

async fn play(turn: &Turn, index: usize, items: usize, response: &str) -> Response {
    tokio::time::sleep(turn.delay).await;
    match &turn.act {
        Act::Answer(script) => stream_answer(script, &answer::items(script, index, items), response),
        Act::Fault { fault, .. } => send_fault(fault, response).await,
    }
}

/// Returns a complete stream, which is sent at once or piece by piece.
fn stream_answer(script: &Answer, items: &[Value], response: &str) -> Response {
    if script.deltas.count == 0 {
        return stream_of(sse::completed(response, items, script.usage));
    }
    let every = Duration::from_millis(script.deltas.every_ms);
    let pieces = stream::iter(0..script.deltas.count).then(move |n| async move {
        if !every.is_zero() {
            tokio::time::sleep(every).await;
        }
        sse::delta(&format!("piece {n} "))
    });
    let begin = stream::iter([sse::beginning(response)]);
    let end = stream::iter([sse::remainder(response, items, script.usage)]);
    let whole = begin.chain(pieces).chain(end).map(|text| Ok::<_, Infallible>(Bytes::from(text)));
    stream_of(Body::from_stream(whole))
}

async fn send_fault(fault: &Fault, response: &str) -> Response {
    match fault {
        Fault::Hang => std::future::pending().await,
        Fault::StallStream => {
            let begin = stream::iter([Ok::<_, Infallible>(Bytes::from(sse::first_half(response)))]);
            stream_of(Body::from_stream(begin.chain(stream::pending())))
        }
        Fault::Disconnect => {
            // An error of the body makes the server drop the connection in the middle of the response. The error comes
            // one poll later, so that the part before it has been sent.
            let half = Bytes::from(sse::first_half(response));
            let broken = stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::ConnectionAborted))
            });
            stream_of(Body::from_stream(stream::iter([Ok(half)]).chain(broken)))
        }
        Fault::HttpError { status, body } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match body {
                Value::String(text) => (status, text.clone()).into_response(),
                json => (status, Json(json.clone())).into_response(),
            }
        }
        Fault::Failed { code, message } => stream_of(sse::failed(response, code, message)),
    }
}

/// Rejects an unknown script name. The rejection ends the worker at once, and the worker's error contains the reason.
fn unknown(name: &str, scripts: &Scripts) -> Response {
    let names: Vec<_> = scripts.names().collect();
    let message = format!("no script is named {name}; there are: {}", names.join(", "));
    (StatusCode::BAD_REQUEST, Json(json!({"error": {"message": message}}))).into_response()
}

fn stream_of(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], body.into()).into_response()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::super::script::Deltas;
    use super::super::{Script, ScriptedModel};
    use super::*;

    /// Requests a response, as a thread named `t`, and returns everything received.
    async fn request(model: &ScriptedModel, prompt: &str) -> String {
        let message = json!({"type": "message", "role": "user", "content": prompt});
        let body = json!({ "input": [message] }).to_string();
        let mut stream = TcpStream::connect(model.address()).await.unwrap();
        let head_and_body = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: close\r\nthread-id: t\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head_and_body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The answer ends at an error, too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_answered_by_its_script_and_recorded() {
        let model = ScriptedModel::start(Scripts::from_iter([Script::new("s").say("done")])).await.unwrap();
        let answer = request(&model, "go [script:s]").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("done") && answer.contains("response.completed"), "{answer}");
        model.wait_for_requests(1).await;
        let seen = model.requests();
        assert_eq!(
            (seen[0].script.as_str(), seen[0].turn, seen[0].thread.as_deref()),
            ("s", Some(0), Some("t"))
        );
    }

    #[tokio::test]
    async fn an_unknown_script_name_is_rejected_with_the_known_names() {
        let model = ScriptedModel::start(Scripts::default()).await.unwrap();
        let answer = request(&model, "go [script:nope]").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("no script is named nope; there are: default"), "{answer}");
    }

    #[tokio::test]
    async fn a_fault_with_a_count_ends_after_that_many_requests_of_a_thread() {
        let fault = Fault::HttpError { status: 503, body: "later".into() };
        let script = Script::new("s").then(Act::Fault { fault, times: Some(2) }).say("back");
        let model = ScriptedModel::start(Scripts::from_iter([script])).await.unwrap();
        assert!(request(&model, "[script:s]").await.starts_with("HTTP/1.1 503"));
        assert!(request(&model, "[script:s]").await.starts_with("HTTP/1.1 503"));
        assert!(request(&model, "[script:s]").await.contains("back"));
    }

    #[tokio::test]
    async fn an_answer_can_be_written_piece_by_piece() {
        let deltas = Deltas { count: 3, every_ms: 1 };
        let answer = Answer { message: Some("whole".into()), deltas, ..Answer::default() };
        let script = Script::new("s").then(Act::Answer(answer));
        let model = ScriptedModel::start(Scripts::from_iter([script])).await.unwrap();
        let answer = request(&model, "[script:s]").await;
        assert_eq!(answer.matches("event: response.output_text.delta").count(), 3, "{answer}");
        assert!(answer.find("piece 2") < answer.find("whole"), "{answer}");
        assert_eq!(answer.matches("response.created").count(), 2, "{answer}");
    }

    #[tokio::test]
    async fn a_disconnect_breaks_the_connection_after_half_a_stream() {
        let script = Script::new("s").fault(Fault::Disconnect);
        let model = ScriptedModel::start(Scripts::from_iter([script])).await.unwrap();
        let answer = request(&model, "[script:s]").await;
        assert!(answer.contains("I was about to") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    }
}
