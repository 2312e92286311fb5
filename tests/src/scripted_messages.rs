//! A scripted server of the Messages API for the real Claude Code: the model runs one command, and then says a text.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Maximum length of a request, in bytes.
const MAX_REQUEST: usize = 64 << 20;

/// A received request.
#[derive(Debug, Clone)]
pub struct MessagesRequest {
    /// Path and query.
    pub target: String,
    /// Header `x-api-key`.
    pub key: Option<String>,
    /// Header `Authorization`.
    pub authorization: Option<String>,
    /// Body.
    pub body: String,
}

/// Error with which a server answers each request.
#[derive(Debug, Clone)]
pub struct MessagesError {
    /// Status of the answer.
    pub status: u16,
    /// Type of the error, such as `overloaded_error`.
    pub kind: &'static str,
}

#[derive(Debug)]
struct Shared {
    /// Command that the model runs.
    command: String,
    error: Option<MessagesError>,
    requests: Mutex<Vec<MessagesRequest>>,
}

/// A running server. It runs until the test program ends.
#[derive(Debug)]
pub struct ScriptedMessages {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl ScriptedMessages {
    /// Starts a server on a free port of 127.0.0.1, on a thread of its own. With an error, each request gets it.
    pub fn start(command: &str, error: Option<MessagesError>) -> io::Result<Self> {
        let shared = Arc::new(Shared { command: command.to_owned(), error, requests: Mutex::default() });
        let state = Arc::clone(&shared);
        let (started, address) = mpsc::channel();
        std::thread::spawn(move || -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                // The test waits for the address.
                let _ = started.send(listener.local_addr()?);
                let app = Router::new()
                    .route("/v1/messages", post(answer))
                    .layer(DefaultBodyLimit::max(MAX_REQUEST))
                    .with_state(state);
                axum::serve(listener, app).await
            })
        });
        Ok(Self { address: address.recv().map_err(io::Error::other)?, shared })
    }

    /// Returns the URL for `ANTHROPIC_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the received requests, oldest first.
    pub fn requests(&self) -> Vec<MessagesRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let parsed: Value = serde_json::from_str(&body).unwrap_or_default();
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(MessagesRequest {
        target: uri.to_string(),
        key: text("x-api-key"),
        authorization: text("authorization"),
        body,
    });
    if let Some(error) = &shared.error {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({"type": "error", "error": {"type": error.kind, "message": "scripted"}});
        return (status, axum::Json(body)).into_response();
    }
    let stream = if has_tool_result(&parsed) {
        text_answer(&parsed, "All done.")
    } else {
        command_answer(&parsed, &shared.command)
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], stream).into_response()
}

/// Returns true if the newest message has the result of a command.
fn has_tool_result(body: &Value) -> bool {
    let newest = body["messages"].as_array().and_then(|messages| messages.last());
    let content = newest.and_then(|message| message["content"].as_array());
    content.is_some_and(|content| content.iter().any(|block| block["type"] == "tool_result"))
}

fn text_answer(body: &Value, text: &str) -> String {
    let delta = json!({"type": "text_delta", "text": text});
    stream(body, &json!({"type": "text", "text": ""}), &delta, "end_turn")
}

fn command_answer(body: &Value, command: &str) -> String {
    let input = json!({"command": command, "description": "run it"}).to_string();
    let block = json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}});
    stream(body, &block, &json!({"type": "input_json_delta", "partial_json": input}), "tool_use")
}

/// Returns a stream with one block of content: 110 tokens are read, 10 of them from a cache, and 20 are written.
fn stream(body: &Value, block: &Value, delta: &Value, stop_reason: &str) -> String {
    let usage = json!({"input_tokens": 100, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 0,
                       "output_tokens": 1});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"],
                         "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage});
    let stop = json!({"stop_reason": stop_reason, "stop_sequence": null});
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ];
    let lines = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()));
    lines.collect()
}
