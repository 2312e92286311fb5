//! Admission of agents on `/agent`, decided before the upgrade of the HTTP request to a WebSocket.

use std::sync::atomic::Ordering;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use common::wire;

use super::app_state::AppState;
use super::connection;
use super::http_admission::{NO_TOKEN, Refusal, bearer_token, refuse_browsers_and_foreign_hosts};

/// Size of the WebSocket's own buffers, in bytes, one for each direction and agent: a thousand agents must fit into 64
/// MiB. A longer message gets a larger buffer while it is received.
const SOCKET_BUFFER: usize = 4 * 1024;

/// Handles the upgrade request of an agent.
pub(super) async fn serve_agent(State(app): State<AppState>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let token = match refuse_browsers_and_foreign_hosts(&parts.headers) {
        Ok(()) => app.tokens.find(bearer_token(&parts.headers)),
        Err(refusal) => return refusal.into_response(),
    };
    let Some(token) = token else { return NO_TOKEN.into_response() };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    // The number is not taken at the hello: hellos may be handled in another order than connections were accepted.
    let number = app.connection_counter.fetch_add(1, Ordering::Relaxed);
    upgrade
        .protocols([wire::SUBPROTOCOL])
        .max_message_size(wire::MAX_MESSAGE)
        .max_frame_size(wire::MAX_MESSAGE)
        .read_buffer_size(SOCKET_BUFFER)
        .write_buffer_size(SOCKET_BUFFER)
        .max_write_buffer_size(wire::MAX_MESSAGE + SOCKET_BUFFER)
        .on_upgrade(move |socket| connection::run(socket, app, token, number))
}

/// Refuses an agent that connects without TLS, without checking its token.
pub(super) async fn refuse_plain() -> Refusal {
    (StatusCode::FORBIDDEN, "agents connect over TLS: use wss://\n")
}

/// Health check: reports that a relay is running, and its version.
pub(super) async fn serve_health(headers: HeaderMap) -> Result<&'static str, Refusal> {
    refuse_browsers_and_foreign_hosts(&headers).map(|()| concat!("relay ", env!("CARGO_PKG_VERSION"), "\n"))
}
